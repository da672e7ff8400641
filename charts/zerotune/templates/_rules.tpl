{{- /* What the operator may do where it carries out jobs. It reads no Secrets: pods mount them by name. No pods/exec, no
pods/log: pods answer over HTTP. No wildcards, and no objects of the cluster. */ -}}
{{- define "zerotune.rules" -}}
- apiGroups: [zerotune.dev]
  resources: [finetunejobs, inferencejobs]
  # list, watch: learn of jobs. delete: runPolicy.ttlSecondsAfterFinished.
  verbs: [list, watch, delete]
{{- if .Values.sagemaker.enabled }}
- apiGroups: [zerotune.dev]
  resources: [finetunejobs, inferencejobs]
  # patch: the finalizer of a job on SageMaker, where no garbage collector stops what it has started.
  verbs: [patch]
{{- end }}
- apiGroups: [zerotune.dev]
  resources: [finetunejobs/status, inferencejobs/status]
  # patch: the one status patch of a reconcile. Specs are the users': the operator cannot change them.
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  # list, watch: how an attempt fares. create: an attempt; get: one that was created before a restart.
  # patch: end it gracefully.
  # delete: an attempt that is stopped while its queue holds it back; an inspection that failed, to try again.
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  # list, watch: which node, why not scheduled, how a container ended; where to ask for progress.
  # The Job controller makes and deletes them.
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services]
  # create, patch: what pods find each other and their configuration by. get: whose an object of that name is, and
  # whether it is still there; only metadata is asked for. They go with the job that owns them.
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  # As above. delete: the configuration of an attempt that the status no longer lists.
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  # create: what the ranks of an attempt know each other by. It goes with the job that owns it.
  verbs: [create]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  # create, patch: the policy that keeps others out of a job's pods. get: as above.
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [events]
  # create: report what happened. list: quota, missing volumes and accounts are reported in events alone.
  verbs: [create, list]
{{- end }}
