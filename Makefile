# Residuum's one Makefile. `make` builds; `make help` lists the targets. Everything it makes lies in build/<config>/, and the
# programs of the release configuration are linked to build/.

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

# Sources of a folder -> its objects
objects = $(patsubst %.c,$(O)/%.o,$(wildcard $(1)/*.c))

# An archive, so that a program links only what it uses (sha256.o needs nettle, loop.o nothing of the client).
COMMON := $(B)/libcommon.a
STORE := $(call objects,server/store) $(O)/gen/migrations.o
GRAPH := $(call objects,server/graph)
TRAIN := $(call objects,server/train)
SCHED := $(call objects,server/sched)
API := $(call objects,server/api) $(O)/gen/openapi.o
CLIENT := $(call objects,client)
REF := $(call objects,server/backend/ref)
ONEDNN := $(call objects,server/backend/onednn)

# What a module may use of common: nothing that needs jansson (floors: a module links its own library only).
MODULE_COMMON := $(O)/common/err.o $(O)/common/rng.o

PROGRAMS := residuumd residuum-worker residuum
MODULES := backend-ref.so backend-onednn.so
OUTPUTS := $(addprefix $(B)/,$(PROGRAMS) $(MODULES))

# C tests: tests/{unit,ops,golden}/test_NAME.c, each one cmocka program. What else it needs is the row UNIT_NAME of tests/unit.mk.
TEST_SOURCES := $(wildcard tests/unit/test_*.c tests/ops/test_*.c tests/golden/test_*.c)
TESTS := $(patsubst %.c,$(B)/%,$(TEST_SOURCES))

all: $(OUTPUTS) web links

links: $(OUTPUTS)
ifeq ($(CONFIG),release)
	@for f in $(PROGRAMS) $(MODULES); do ln -sfn release/$$f build/$$f; done
endif

$(COMMON): $(call objects,common)
	rm -f $@
	ar rcs $@ $^

$(B)/residuumd: $(O)/server/main.o $(STORE) $(SCHED) $(API) $(GRAPH) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lmicrohttpd -lsqlite3 -ljansson -lnettle -lm

$(B)/residuum-worker: $(TRAIN) $(GRAPH) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ljansson -lnettle -lz -ldl -lpthread -lm

$(B)/residuum: $(CLIENT) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lcurl -ljansson -lm

$(B)/backend-ref.so: $(REF) $(MODULE_COMMON)
	$(CC) $(ALL_LDFLAGS) -shared -o $@ $^ -lm

$(B)/backend-onednn.so: $(ONEDNN) $(MODULE_COMMON)
	$(CC) $(ALL_LDFLAGS) -fopenmp -shared -o $@ $^ -ldnnl -lm

$(O)/server/backend/onednn/%.o: ALL_CFLAGS += -fopenmp -O3

# Objects depend on how they are compiled, not on every change of this file.
FLAGS := $(CC) $(ALL_CFLAGS)
$(B)/flags: always
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS)' | cmp -s - $@ || printf '%s\n' '$(FLAGS)' > $@

$(O)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/gen/migrations.c: migrations/embed.py $(wildcard migrations/*.sql)
	$(PYTHON) migrations/embed.py migrations $@

$(O)/gen/%.o: $(B)/gen/%.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

TEST_LIBS := -lcmocka -ljansson -lnettle -lsqlite3 -lmicrohttpd -lcurl -lz -ldl -lpthread -lm

include tests/unit.mk

test_name = $(patsubst test_%,%,$(notdir $(1)))

.SECONDEXPANSION:
$(TESTS): $(B)/%: $(O)/%.o $$(UNIT_$$(call test_name,$$@))
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) $(UNIT_LDFLAGS_$(call test_name,$@)) -o $@ $^ $(UNIT_LIBS_$(call test_name,$@)) $(TEST_LIBS)

tests: $(TESTS)

# The dashboard: static files as they are, and ECharts with its licences from the lock file.
web: $(B)/web.stamp

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

$(B)/web.stamp: $(shell find web -name node_modules -prune -o -type f -print) web/node_modules/.package-lock.json
	rm -rf $(B)/web $(B)/web.part
	mkdir -p $(B)/web.part/vendor
	cp -R web/index.html web/favicon.svg web/*.css web/src $(B)/web.part/
	cp web/node_modules/echarts/dist/echarts.esm.min.js $(B)/web.part/vendor/
	for f in echarts/LICENSE echarts/NOTICE zrender/LICENSE; do cp web/node_modules/$$f $(B)/web.part/vendor/$$(echo $$f | tr / -).txt; done
	mv $(B)/web.part $(B)/web
	@touch $@

clean:
	rm -rf build

.PHONY: all links web tests clean always
.SECONDARY:
-include $(shell find $(O) -name '*.d' 2>/dev/null)
