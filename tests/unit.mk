# What each C test is linked with besides its own object, one row a test, sorted by name:
#   tests/unit/test_NAME.c (or tests/ops/, tests/golden/)  ->  UNIT_NAME := objects
# COMMON, GRAPH, STORE, SCHED, API, TRAIN, CLIENT, REF and ONEDNN hold the objects of a folder; leave main's out where there is one:
# $(filter-out $(O)/server/train/main.o,$(TRAIN)). All libraries of the project are offered, and linked when used. A test that needs
# more says UNIT_LIBS_NAME (libraries) or UNIT_LDFLAGS_NAME (flags, such as -Wl,--wrap=malloc).
UNIT_api := $(API) $(SCHED) $(STORE) $(GRAPH) $(COMMON)
UNIT_LDFLAGS_api := -Wl,--wrap=realloc
UNIT_api_commit := $(API) $(O)/server/sched/fit.o $(STORE) $(GRAPH) $(COMMON)
UNIT_augment := $(O)/tests/unit/case_rig.o $(patsubst %,$(O)/server/train/%.o,batch mixup parallel) $(COMMON)
UNIT_common := $(COMMON)
UNIT_dataset_card := $(O)/tests/unit/alloc_rig.o $(COMMON)
UNIT_LDFLAGS_dataset_card := -Wl,--wrap=malloc,--wrap=calloc
UNIT_fit := $(O)/server/sched/fit.o $(COMMON)
UNIT_gpu_kernels := $(patsubst %,$(O)/tests/unit/%.o,kernel_rig $(addprefix gpu_kernels_,conv element group images loss norm update window)) \
	$(KERNELS_C) $(patsubst %,$(O)/server/train/%.o,batch mixup parallel) $(COMMON)
UNIT_golden := $(O)/tests/golden/formula.o $(O)/tests/ops/rig.o $(GRAPH) $(COMMON)
UNIT_gpu_need := $(patsubst %,$(O)/tests/unit/%.o,alloc_rig model_rig) $(GRAPH) $(COMMON)
UNIT_LDFLAGS_gpu_need := -Wl,--wrap=malloc,--wrap=calloc
UNIT_gpu_plan := $(patsubst %,$(O)/tests/unit/%.o,alloc_rig gpu_walk model_rig) $(O)/tests/ops/cases.o $(O)/tests/ops/random.o $(GRAPH) $(COMMON)
UNIT_LDFLAGS_gpu_plan := -Wl,--wrap=malloc,--wrap=calloc
UNIT_gpu_profile := $(GRAPH) $(COMMON)
UNIT_graph := $(GRAPH) $(COMMON)
UNIT_LDFLAGS_graph := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
UNIT_graph_cases := $(GRAPH) $(COMMON)
UNIT_graphs := $(O)/tests/golden/formula.o $(patsubst %,$(O)/tests/ops/%.o,cases random rig) $(GRAPH) $(COMMON)
UNIT_graph_layers := $(GRAPH) $(COMMON)
UNIT_LDFLAGS_graph_layers := -Wl,--wrap=calloc,--wrap=realloc
UNIT_ops := $(patsubst %,$(O)/tests/ops/%.o,against cases compare fd random rig training values) $(GRAPH) $(COMMON)
UNIT_plans := $(patsubst %,$(O)/tests/ops/%.o,cases rig values) $(GRAPH) $(COMMON)
UNIT_import_names := $(O)/server/train/import/names.o $(COMMON)
UNIT_LDFLAGS_import_names := -Wl,--wrap=calloc,--wrap=realloc
UNIT_import_sandbox := $(patsubst %,$(O)/server/train/import/%.o,sandbox landlock seccomp) $(COMMON)
UNIT_layers := $(O)/tests/unit/alloc_rig.o $(O)/server/train/layers.o $(COMMON)
UNIT_LDFLAGS_layers := -Wl,--wrap=malloc,--wrap=calloc
UNIT_loop := $(COMMON)
UNIT_memory := $(O)/tests/ops/rig.o $(O)/tests/unit/model_rig.o $(GRAPH) $(COMMON)
UNIT_metrics := $(O)/tests/unit/case_rig.o $(O)/tests/unit/alloc_rig.o $(O)/server/train/metrics.o $(COMMON)
UNIT_LDFLAGS_metrics := -Wl,--wrap=malloc,--wrap=calloc
UNIT_predictions := $(O)/tests/unit/alloc_rig.o $(patsubst %,$(O)/server/train/%.o,predictions metrics safetensors) $(COMMON)
UNIT_LDFLAGS_predictions := -Wl,--wrap=malloc,--wrap=calloc
UNIT_presets := $(O)/tests/ops/rig.o $(O)/tests/unit/model_rig.o $(GRAPH) $(COMMON)
UNIT_sched := $(SCHED) $(STORE) $(COMMON)
UNIT_spec := $(COMMON)
UNIT_select := $(O)/server/train/select.o $(COMMON)
UNIT_split := $(patsubst %,$(O)/server/train/%.o,data fashion idx imported measure parallel shapes split) $(COMMON)
UNIT_sse := $(O)/client/sse.o $(O)/client/buffer.o $(COMMON)
UNIT_LDFLAGS_sse := -Wl,--wrap=calloc,--wrap=realloc
UNIT_client := $(filter-out $(O)/client/main.o,$(CLIENT)) $(COMMON)
UNIT_client_stream := $(filter-out $(O)/client/main.o,$(CLIENT)) $(COMMON)
UNIT_data_batch := $(patsubst %,$(O)/server/train/%.o,batch mixup data fashion idx imported measure parallel shapes split) $(COMMON)
UNIT_data_idx := $(O)/server/train/idx.o $(COMMON)
UNIT_LDFLAGS_data_idx := -Wl,--wrap=malloc
UNIT_store_dataset := $(O)/tests/unit/store_rig.o $(STORE) $(COMMON)
UNIT_store_job := $(O)/tests/unit/store_rig.o $(STORE) $(COMMON)
UNIT_store_schema := $(O)/tests/unit/store_rig.o $(STORE) $(COMMON)
UNIT_store_turn := $(O)/tests/unit/store_rig.o $(STORE) $(COMMON)
UNIT_train_lock := $(O)/server/train/lock.o $(O)/server/train/stop.o $(COMMON)
UNIT_train_safetensors := $(O)/tests/unit/alloc_rig.o $(O)/server/train/safetensors.o $(COMMON)
UNIT_LDFLAGS_train_safetensors := -Wl,--wrap=malloc,--wrap=calloc
UNIT_train_schedule := $(O)/tests/unit/case_rig.o $(COMMON)
UNIT_train_watchdog := $(O)/server/train/watchdog.o $(COMMON)
UNIT_driver := $(patsubst %,$(O)/server/backend/cudnn/%.o,compiler device driver error library load nvml profile) $(COMMON)
UNIT_kernels := $(addprefix $(O)/server/backend/cudnn/,kernels/load.o compiler.o error.o library.o) $(O)/gen/kernels.o $(COMMON)

# Fakes of NVIDIA's libraries, which test_driver puts in the place of the real ones. An old driver has few functions only.
FAKE := $(B)/tests/gpu/fakes
FAKES := $(addprefix $(FAKE)/,libcuda.so libcuda-old.so libcudnn.so libcudnn-old.so libnvidia-ml.so libempty.so)
$(O)/tests/gpu/fakes/%.o: ALL_CFLAGS += -fvisibility=default
$(FAKE)/libcuda.so: $(patsubst %,$(O)/tests/gpu/fakes/%.o,cuda rest)
$(FAKE)/libcuda-old.so: $(O)/tests/gpu/fakes/cuda.o
$(FAKE)/libcudnn.so: $(patsubst %,$(O)/tests/gpu/fakes/%.o,cudnn rest)
$(FAKE)/libcudnn-old.so: $(O)/tests/gpu/fakes/cudnn.o
$(FAKE)/libnvidia-ml.so: $(O)/tests/gpu/fakes/nvml.o
$(FAKE)/libempty.so: $(O)/tests/gpu/fakes/empty.o
$(FAKES):
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -o $@ $^
$(B)/tests/gpu/test_driver: | $(FAKES)

# Plans of the real cuDNN. The programs find a driver without a device beside themselves.
PLANS := $(patsubst %,$(O)/server/backend/cudnn/%.o,error library plans plans_cache plans_conv plans_draft plans_norm plans_search plans_unit)
PLAN_RIG := $(O)/tests/gpu/plan_rig.o $(O)/tests/unit/model_rig.o $(PLANS) $(GRAPH) $(COMMON)
NULL_CUDA := $(B)/tests/gpu/null/libcuda.so.1
$(O)/tests/gpu/null_cuda.o: ALL_CFLAGS += -fvisibility=default
$(NULL_CUDA): $(O)/tests/gpu/null_cuda.o
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(@F) -o $@ $^
UNIT_cudnn_plans := $(PLAN_RIG)
UNIT_plan_cache := $(PLAN_RIG)
UNIT_plan_calls := $(O)/tests/unit/alloc_rig.o $(PLAN_RIG)
UNIT_LDFLAGS_plan_calls := -Wl,--wrap=malloc,--wrap=calloc
$(patsubst %,$(B)/tests/gpu/test_%,cudnn_plans plan_cache plan_calls): | $(NULL_CUDA)
$(B)/tests/gpu/plan_check: $(O)/tests/gpu/plan_check.o $(PLAN_RIG) | $(NULL_CUDA)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(TEST_LIBS)

# The strict double of a GPU, tested by breaking its rules.
DOUBLE_TEST := $(O)/tests/gpu/double_rig.o $(DOUBLE) $(KERNELS_C) \
	$(patsubst %,$(O)/server/backend/cudnn/%.o,error library plans plans_cache plans_conv plans_draft plans_search) $(COMMON)
UNIT_double_memory := $(DOUBLE_TEST)
UNIT_double_streams := $(DOUBLE_TEST)
UNIT_double_plans := $(DOUBLE_TEST)
UNIT_double_faults := $(DOUBLE_TEST)

# The backend on the double.
UNIT_backend := $(O)/tests/gpu/noise.o $(patsubst %,$(O)/tests/ops/%.o,cases rig values) $(patsubst %,$(O)/server/train/%.o,batch mixup parallel) $(GRAPH) $(COMMON)
$(B)/tests/gpu/test_backend: | $(B)/double/backend-cudnn.so
