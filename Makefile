# Residuum's one Makefile. `make` builds; `make help` lists the targets. Everything it makes lies in build/<config>/ (and npm's
# packages beside their lock files), and the programs of the release configuration are linked to build/.

CONFIG ?= release
PREFIX ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
PYTHON ?= /usr/bin/python3

B := build/$(CONFIG)
O := $(B)/obj

WARN := -Wall -Wextra -Werror -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
OPT_release := -O2 -g
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS ?=
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE $(WARN) $(OPT_$(CONFIG)) -fPIC -fvisibility=hidden -I. -I$(B)/gen -MMD -MP $(CFLAGS)
# --as-needed: a program is linked with those of the named libraries that it uses.
ALL_LDFLAGS := $(OPT_$(CONFIG)) -Wl,--as-needed $(LDFLAGS)

# The GPU's module is built where CUDA's and cuDNN's headers are: auto, yes (fails without them) or no. It needs neither library to
# link. nvcc is optional: without it the kernels are compiled when the module opens a device.
CUDNN ?= auto
CUDA_HOME ?= /usr/local/cuda
NVCC ?= $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc /usr/bin/nvcc))
CUDA_INCLUDE := $(addprefix -isystem ,$(wildcard $(CUDA_HOME)/include))
ifeq ($(filter $(CUDNN),auto yes no),)
$(error CUDNN=$(CUDNN); it is auto, yes or no)
endif
ifneq ($(CUDNN),no)
# cuDNN 9.11: the first that builds plans for a described device (docs.nvidia.com, deviceless ahead-of-time compilation)
CUDNN_FOUND := $(shell version="$$(echo CUDNN_VERSION | $(CC) $(CUDA_INCLUDE) -include cuda.h -include cudnn.h -E -P -x c - \
	2>/dev/null | tail -n 1)" && [ -n "$$version" ] && [ $$(($$version)) -ge 91100 ] && echo $$(($$version)))
ifeq ($(CUDNN_FOUND)$(CUDNN),yes)
$(error CUDNN=yes, but cuda.h and cudnn.h 9.11 or newer are neither in $(CUDA_HOME)/include nor in the compiler's own folders)
endif
endif

# Sources of a folder -> its objects
objects = $(patsubst %.c,$(O)/%.o,$(wildcard $(1)/*.c))

# An archive, so that a program links only what it uses (sha256.o needs nettle, loop.o nothing of the client).
COMMON := $(B)/libcommon.a
STORE := $(call objects,server/store) $(O)/gen/migrations.o
GRAPH := $(call objects,server/graph) $(O)/gen/gpu_profiles.o
IMPORT := $(call objects,server/train/import)
EXPORT := $(call objects,server/train/export) $(O)/gen/onnx.pb-c.o
TRAIN := $(call objects,server/train) $(IMPORT) $(EXPORT)
SCHED := $(call objects,server/sched)
API := $(call objects,server/api) $(O)/gen/openapi.o
CLIENT := $(call objects,client)
REF := $(call objects,server/backend/ref)
ONEDNN := $(call objects,server/backend/onednn)
# The GPU's own kernels: as C, for tests; and what the module loads onto a device.
KERNELS := $(patsubst %,server/backend/cudnn/kernels/%.c,conv element group images loss norm update window)
KERNELS_C := $(KERNELS:%.c=$(O)/%.o) $(O)/server/backend/cudnn/kernels/host.o
CUDNN_MODULE := $(call objects,server/backend/cudnn) $(O)/server/backend/cudnn/kernels/load.o $(O)/gen/kernels.o

# What a module may use of common: nothing that needs jansson (floors: a module links its own library only).
MODULE_COMMON := $(O)/common/err.o $(O)/common/rng.o
# The memory plan of server/graph/gpu.h, which backend-cudnn.so shares with the daemon: no JSON either.
GPU_PLAN := $(patsubst %,$(O)/server/graph/gpu_%.o,plan fuse value place param)
CUDNN_COMMON := $(MODULE_COMMON) $(GPU_PLAN) $(O)/common/augment.o $(O)/common/file.o

PROGRAMS := residuumd residuum-worker residuum
MODULES := backend-ref.so backend-onednn.so $(if $(CUDNN_FOUND),backend-cudnn.so)
OUTPUTS := $(addprefix $(B)/,$(PROGRAMS) $(MODULES))

# C tests: tests/{unit,ops,golden,gpu}/test_NAME.c, each one cmocka program. What else it needs is the row UNIT_NAME of tests/unit.mk.
# Those of tests/gpu include the headers of CUDA and cuDNN.
TEST_SOURCES := $(wildcard tests/unit/test_*.c tests/ops/test_*.c tests/golden/test_*.c $(if $(CUDNN_FOUND),tests/gpu/test_*.c))
TESTS := $(patsubst %.c,$(B)/%,$(TEST_SOURCES))

# The page: our files as they are, and what npm brings. (web/*.png are pictures for README.md.)
WEB := $(patsubst web/%,$(B)/web/%,$(wildcard web/*.html web/*.css web/*.svg) $(shell find web/src -name '*.js' 2>/dev/null)) \
	$(B)/web/vendor/echarts.esm.min.js $(B)/web/vendor/echarts.esm.min.js.gz $(B)/web/vendor/echarts.LICENSE.txt $(B)/web/vendor/echarts.NOTICE.txt \
	$(B)/web/vendor/zrender.LICENSE.txt

# How a target runs make again: with all cores.
JOBS ?= $(shell nproc)
AGAIN = +$(MAKE) --no-print-directory -j$(JOBS) CONFIG=$(CONFIG)

all: $(OUTPUTS) $(WEB) links ## build the programs, the modules and the page (the default)

ifneq ($(CUDNN_FOUND),)
GPU_SENTENCE := cuDNN $(shell v=$(CUDNN_FOUND); echo $$((v / 10000)).$$((v / 100 % 100)).$$((v % 100))) found, backend-cudnn.so is built$(if $(NVCC),, (without nvcc: its kernels are compiled when it is used))
else ifeq ($(CUDNN),no)
GPU_SENTENCE := not wanted (CUDNN=no), backend-cudnn.so is not built
else
GPU_SENTENCE := no headers of CUDA and cuDNN 9.11 or newer in $(CUDA_HOME)/include (CUDA_HOME=...), backend-cudnn.so is not built
endif

web: $(WEB)

# What the programs are found under; whether the GPU's module is among them is said, and kept for the tests that need it.
links: $(OUTPUTS) $(WEB)
ifeq ($(CONFIG),release)
	@for f in $(PROGRAMS) $(MODULES) web; do ln -sfn release/$$f build/$$f; done
endif
	@echo "GPU: $(GPU_SENTENCE)" | tee $(B)/cudnn.txt

$(COMMON): $(call objects,common)
	rm -f $@
	ar rcs $@ $^

$(B)/residuumd: $(call objects,server) $(STORE) $(SCHED) $(API) $(GRAPH) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lmicrohttpd -lsqlite3 -ljansson -lnettle -lm

$(B)/residuum-worker: $(TRAIN) $(GRAPH) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ljansson -lnettle -lprotobuf-c -larchive -lpng -ljpeg -lz -ldl -lpthread -lm

$(B)/residuum: $(CLIENT) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lcurl -ljansson -lnettle -lm

$(B)/backend-ref.so: $(REF) $(MODULE_COMMON)
	$(CC) $(ALL_LDFLAGS) -shared -o $@ $^ -lm

$(B)/backend-onednn.so: $(ONEDNN) $(MODULE_COMMON)
	$(CC) $(ALL_LDFLAGS) -fopenmp -shared -o $@ $^ -ldnnl -lm

# No library of NVIDIA among the needed ones: all are opened when the module is used.
$(B)/backend-cudnn.so: $(CUDNN_MODULE) $(CUDNN_COMMON)
	$(CC) $(ALL_LDFLAGS) -shared -o $@ $^ -ldl -lm

# The same module on the strict double of a GPU (tests/gpu/double), for RESIDUUM_BUILD=$(B)/double; a worker beside it finds it there.
DOUBLE := $(call objects,tests/gpu/double)
$(B)/double/backend-cudnn.so: $(filter-out %/cudnn/load.o,$(CUDNN_MODULE)) $(CUDNN_COMMON) $(DOUBLE) $(KERNELS_C) \
		| $(B)/double/backend-ref.so $(B)/double/residuum-worker
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -o $@ $^ -ldl -lpthread -lm
	ln -sf $(@F) $(@D)/libnvidia-ml.so.1
$(B)/double/%: $(B)/%
	@mkdir -p $(@D)
	ln -f $< $@
$(O)/tests/gpu/double/%.o: ALL_CFLAGS += -O3 -DDOUBLE_PROFILES='"$(CURDIR)/server/graph/profiles"'

# Every call that cuDNN calls deprecated is an error.
CUDNN_CFLAGS := $(CUDA_INCLUDE) -DCUDNN_WARN_DEPRECATED -Werror=deprecated-declarations
$(O)/server/backend/cudnn/%.o: ALL_CFLAGS += $(CUDNN_CFLAGS)
$(O)/tests/gpu/%.o: ALL_CFLAGS += $(CUDNN_CFLAGS)

$(O)/server/backend/onednn/%.o: ALL_CFLAGS += -fopenmp -O3
# Loops over every pixel of a data set.
$(O)/server/train/measure.o $(O)/server/train/import/resize.o: ALL_CFLAGS += -O3
# As nvcc's --fmad=false: the same arithmetic on both sides.
$(O)/server/backend/cudnn/kernels/%.o: ALL_CFLAGS += -ffp-contract=off

# Objects depend on how they are compiled, not on every change of this file.
FLAGS := $(CC) $(ALL_CFLAGS)
$(B)/flags: always
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS)' | cmp -s - $@ || printf '%s\n' '$(FLAGS)' > $@

$(O)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(O)/gen/%.o: $(B)/gen/%.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

TEST_LIBS := -lcmocka -ljansson -lnettle -lsqlite3 -lmicrohttpd -lcurl -larchive -lpng -ljpeg -lz -lprotobuf-c -ldl -lpthread -lm

$(B)/gen/openapi.c: server/api/openapi_to_c.py server/api/openapi.yaml
	@mkdir -p $(@D)
	$(PYTHON) server/api/openapi_to_c.py server/api/openapi.yaml $@

# ONNX's format, as Debian's libonnx-dev has it.
ONNX_PROTO ?= /usr/include/onnx/onnx.proto
$(B)/gen/onnx.pb-c.c $(B)/gen/onnx.pb-c.h &: $(ONNX_PROTO)
	@mkdir -p $(@D)
	protoc-c --proto_path=$(<D) --c_out=$(B)/gen $(<F)
$(call objects,server/train/export): $(B)/gen/onnx.pb-c.h
$(O)/server/train/export/%.o: ALL_CFLAGS += -I$(B)

$(B)/gen/migrations.c: migrations/embed.py $(wildcard migrations/*.sql)
	$(PYTHON) migrations/embed.py migrations $@

$(B)/gen/kernels.c: $(addprefix server/backend/cudnn/kernels/,build.py kernels.cu kernels.h access.h target.h) $(KERNELS) common/augment.h
	$(PYTHON) $< $@ $(NVCC)

$(B)/gen/gpu_profiles.c: server/graph/profiles/embed.py $(wildcard server/graph/profiles/*.json)
	$(PYTHON) $< server/graph/profiles $@

$(B)/web/%: web/%
	@install -D -m 644 $< $@

$(B)/web/vendor/echarts.esm.min.js: web/node_modules/.installed
	@install -D -m 644 web/node_modules/echarts/dist/$(@F) $@

# The daemon sends it to browsers that take gzip: a third of the bytes.
$(B)/web/vendor/echarts.esm.min.js.gz: $(B)/web/vendor/echarts.esm.min.js
	@gzip -9nc $< > $@.part && mv $@.part $@

$(B)/web/vendor/echarts.%.txt: web/node_modules/.installed
	@install -D -m 644 web/node_modules/echarts/$* $@

$(B)/web/vendor/zrender.%.txt: web/node_modules/.installed
	@install -D -m 644 web/node_modules/zrender/$* $@

# npm's packages of a folder, exactly as its lock file says; nothing of theirs is run.
%/node_modules/.installed: %/package-lock.json %/package.json
	cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

include tests/unit.mk

test_name = $(patsubst test_%,%,$(notdir $(1)))

.SECONDEXPANSION:
$(TESTS): $(B)/%: $(O)/%.o $$(UNIT_$$(call test_name,$$@))
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) $(UNIT_LDFLAGS_$(call test_name,$@)) -o $@ $^ $(UNIT_LIBS_$(call test_name,$@)) $(TEST_LIBS)

$(B)/bench_train: $(O)/tests/bench/bench_train.o $(GRAPH) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ljansson -ldl -lm

$(B)/import_decode: $(O)/tests/bench/import_decode.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -larchive -ljpeg

# Writes the networks that tests/worker/test_onnx.py runs elsewhere.
$(B)/tests/ops/onnx_cases: $(O)/tests/ops/onnx_cases.o $(EXPORT) $(patsubst %,$(O)/tests/ops/%.o,cases random rig values) \
		$(O)/tests/unit/model_rig.o $(GRAPH) $(COMMON)
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lprotobuf-c -lcmocka -ljansson -ldl -lm

tests: $(TESTS) $(B)/tests/ops/onnx_cases $(if $(CUDNN_FOUND),$(B)/tests/gpu/plan_check)

deps: ## install what building and the demo need (apt, on Debian and Ubuntu)
	@tests/deps build demo

deps-check:
	@tests/deps build demo check

deps-bench: ## install what `make bench` needs besides: PyTorch, a browser
	@tests/deps build bench

demo: deps ## install, build, and watch ResNet-20 learn Fashion-MNIST through the daemon, in under 6 minutes
	$(AGAIN) all
	@tests/demo

check: deps-check ## install, build, lint and run every test
	$(AGAIN) all tests tests/node_modules/.installed
	@tests/run

lint: deps-check ## only the checks that read the code and the built files
	$(AGAIN) all tests/node_modules/.installed
	@tests/run lint

asan: deps-check ## the C tests and the tests of the programs, built with ASan and UBSan
	$(AGAIN) CONFIG=asan all tests
	@RESIDUUM_BUILD=build/asan ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
		tests/run unit ops golden gpu worker api client daemon chaos

check-gpu-plans: deps-check ## every plan of cuDNN for every preset, fused batch norms too, without a GPU (minutes, then kept in build/)
	@test -n "$(CUDNN_FOUND)" || { echo "GPU: $(GPU_SENTENCE)"; exit 1; }
	$(AGAIN) tests
	$(B)/tests/gpu/plan_check
	RESIDUUM_PLAN_CACHE=$(B)/plans $(B)/tests/gpu/plan_check --norm

bench: deps-bench ## training speed against PyTorch, what the service adds to it; to build/bench.json, build/bench-service.json
	$(AGAIN) all $(B)/bench_train $(B)/import_decode
	$(PYTHON) tests/bench/bench.py
	$(PYTHON) tests/bench/service.py
	$(PYTHON) tests/bench/import.py

bench-gpu: deps ## on a machine with a GPU: training speed against PyTorch on it (TORCH=PYTHON), time to 94 % (CIFAR10=ARCHIVE)
	$(AGAIN) all $(B)/bench_train
	$(PYTHON) tests/bench/gpu.py

install: all ## copy to DESTDIR/PREFIX (default /usr/local): bin, lib/residuum, share/residuum/web
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/residuum
	install -m 755 $(B)/residuumd $(B)/residuum $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/residuum-worker $(DESTDIR)$(PREFIX)/lib/residuum
	install -m 644 $(addprefix $(B)/,$(MODULES)) $(DESTDIR)$(PREFIX)/lib/residuum
	for file in $(patsubst $(B)/web/%,%,$(WEB)); do \
		install -D -m 644 $(B)/web/$$file $(DESTDIR)$(PREFIX)/share/residuum/web/$$file || exit 1; done
	install -D -m 644 client/residuum.1 $(DESTDIR)$(PREFIX)/share/man/man1/residuum.1
	install -D -m 644 client/completions/residuum.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/residuum
	install -D -m 644 client/completions/residuum.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/residuum.fish
	install -D -m 644 client/completions/_residuum $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_residuum

clean: ## remove what was built
	rm -rf build web/node_modules tests/node_modules

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

.PHONY: all links web tests deps deps-check deps-bench demo check lint asan check-gpu-plans bench bench-gpu install clean help always
.SECONDARY:
-include $(shell find $(O) -name '*.d' 2>/dev/null)
