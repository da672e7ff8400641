"""A stand-in for Amazon SageMaker that boto3 reaches by its endpoint URL, and that runs containers as processes here.

service_model.py  requests against botocore's model of the service
channels.py       what lies in `/opt/ml/input/data`: folders of S3 and of file systems
hosts.py          the hosts of a training job: `/opt/ml` and a process each
states.py         the states of a training job, and which may follow which
training_job.py   the life of a training job: statuses, secondary statuses
faults.py         what goes wrong on request
server.py         the HTTP server
"""
