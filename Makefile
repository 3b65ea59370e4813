# Bore Backend: how everything is built and checked. `make help` lists the targets.
#
# Nothing is listed by hand: a new .c file in common/, proto/ or services/lib/ joins that library, a new folder
# services/<name> becomes build/bin/bore-<name>, a new sql/NNN_name.sql is embedded, a new tests/unit/test_*.c is a test.
#
#   BUILD=dir       where all products go (default build; variants live below it)
#   SANITIZE=1      AddressSanitizer and UndefinedBehaviorSanitizer; into build/asan unless BUILD says otherwise
#   SANITIZE=fuzz   the same with libFuzzer's coverage, by clang; into build/fuzz
#   CC=clang        another compiler, CFLAGS=... further flags; V=1 shows the whole commands

SHELL := /bin/sh
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ifeq ($(origin CC),default)
  CC := gcc
endif
SANITIZE ?=
BUILD ?= $(if $(filter 1,$(SANITIZE)),build/asan,$(if $(filter fuzz,$(SANITIZE)),build/fuzz,build))
override BUILD := $(patsubst %/,%,$(BUILD))
JOBS := $(shell nproc 2>/dev/null || echo 2)

# --- what there is -----------------------------------------------------------------------------------------------
COMMON_SOURCES := $(sort $(wildcard common/*.c))
PROTO_SOURCES := $(sort $(wildcard proto/*.c))
SERVICE_LIB_SOURCES := $(sort $(wildcard services/lib/*.c))
SERVICES := $(sort $(filter-out lib,$(patsubst services/%/main.c,%,$(wildcard services/*/main.c))))
TOOL_SOURCES := $(sort $(wildcard proto/tools/*.c))
UNIT_TEST_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
UNIT_SUPPORT_SOURCES := $(sort $(filter-out $(UNIT_TEST_SOURCES),$(wildcard tests/unit/*.c)))
BENCH_SOURCES := $(sort $(wildcard tests/bench/*.c))
FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
MIGRATIONS := $(sort $(wildcard sql/[0-9]*.sql))
WEB := services/gateway/web
WEB_SOURCES := $(sort $(wildcard $(WEB)/*.html $(WEB)/package-lock.json $(WEB)/app $(WEB)/app/* $(WEB)/assets $(WEB)/assets/*))
SOURCE_FOLDERS := common proto proto/tools services/* tests/unit tests/bench tests/bench/* tests/fuzz
ALL_SOURCES := $(sort $(wildcard $(addsuffix /*.c,$(SOURCE_FOLDERS))))
ALL_HEADERS := $(sort $(wildcard $(addsuffix /*.h,$(SOURCE_FOLDERS))))

LIBRARIES := $(BUILD)/lib/libbore_service.a $(BUILD)/lib/libbore_proto.a $(BUILD)/lib/libbore_common.a
PROGRAMS := $(SERVICES:%=$(BUILD)/bin/bore-%)
TOOLS := $(patsubst proto/tools/%.c,$(BUILD)/tools/%,$(TOOL_SOURCES))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/test/%,$(UNIT_TEST_SOURCES))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzzers/%,$(FUZZ_SOURCES))

# --- how it is compiled ------------------------------------------------------------------------------------------
# Packages with a pkg-config file; civetweb, libev and cmocka have none worth asking.
PACKAGES := libczmq libzmq libpq msgpack libwebsockets libjwt libcurl jansson libcrypt libcrypto
PACKAGE_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PACKAGES) 2>/dev/null))
PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lcivetweb -lev -lm -lpthread

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wstrict-prototypes -Wvla -Werror
INCLUDES := -I. -I$(BUILD) $(if $(wildcard common/banned.h),-include common/banned.h) $(PACKAGE_CFLAGS)
BASE_FLAGS := -std=gnu11 -D_GNU_SOURCE -g -fno-common $(WARNINGS)
ifeq ($(SANITIZE),)
  MODE_FLAGS := -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
  MODE_LINK := -pie -Wl,-z,relro,-z,now
else
  MODE_FLAGS := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -fPIE
  MODE_LINK := -pie -fsanitize=address,undefined
endif
ifeq ($(SANITIZE),fuzz)
  override CC := clang
  MODE_FLAGS += -fsanitize=fuzzer-no-link
endif
Q := $(if $(V),,@)
announce = $(if $(V),,@printf '  %-8s %s\n' $(1) $@)
COMPILE = $(Q)$(CC) $(BASE_FLAGS) $(MODE_FLAGS) $(INCLUDES) $(CFLAGS) -MMD -MP
LINK = $(Q)$(CC) $(MODE_LINK) $(LDFLAGS) -Wl,--as-needed

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

.PHONY: all help run start stop status test unit system lint format sanitize bench chaos fuzz docs clean
.PHONY: programs install env image test-compose
.PHONY: metrics-check check-tools unit-tests benches fuzzers format-check layering-check shell-check docs-check web-check static-check

all: check-tools $(LIBRARIES) $(PROGRAMS) $(TOOLS) $(BUILD)/web/.complete  ## build everything (the default)

programs: check-tools $(PROGRAMS)

# One clear line instead of a page of "not found" when the compiler or a package is missing.
check-tools:
	@command -v $(firstword $(CC)) >/dev/null || { echo "make: no compiler '$(firstword $(CC))': ./bore run installs what is missing" >&2; exit 1; }
	@pkg-config --exists $(PACKAGES) || { echo "make: a library is missing (one of: $(PACKAGES)): ./bore run installs it" >&2; exit 1; }

help:  ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

# --- generated ---------------------------------------------------------------------------------------------------
VERSION_TEXT := $(or $(shell sed -n 's/^\#\# *\[\{0,1\}v\{0,1\}\([0-9][0-9A-Za-z.-]*\).*/\1/p' CHANGELOG.md 2>/dev/null | head -n 1),0.0.0)

# Rewritten only when the version changes, so that it does not rebuild everything.
$(BUILD)/gen/version.h: FORCE
	@mkdir -p $(@D)
	@printf '/* generated from CHANGELOG.md */\n#ifndef GEN_VERSION_H\n#define GEN_VERSION_H\n#define BORE_VERSION "%s"\n#endif\n' \
	    '$(VERSION_TEXT)' > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
.PHONY: FORCE
FORCE:

$(BUILD)/gen/migrations.c: $(MIGRATIONS) tools/embed_sql.awk $(wildcard sql)
	@mkdir -p $(@D)
	$(Q)awk -f tools/embed_sql.awk $(MIGRATIONS) /dev/null > $@

$(BUILD)/obj/gen/migrations.o: $(BUILD)/gen/migrations.c | $(BUILD)/gen/version.h
	@mkdir -p $(@D)
	$(call announce,compile)
	$(COMPILE) -c -o $@ $<

# --- libraries, programs, tools ----------------------------------------------------------------------------------
$(BUILD)/obj/%.o: %.c Makefile | $(BUILD)/gen/version.h
	@mkdir -p $(@D)
	$(call announce,compile)
	$(COMPILE) -c -o $@ $<

define archive
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $(filter %.o,$^)
endef

$(BUILD)/lib/libbore_common.a: $(call objects,$(COMMON_SOURCES))
	$(archive)
$(BUILD)/lib/libbore_proto.a: $(call objects,$(PROTO_SOURCES))
	$(archive)
$(BUILD)/lib/libbore_service.a: $(call objects,$(SERVICE_LIB_SOURCES)) \
    $(if $(wildcard services/lib/migrate.h),$(BUILD)/obj/gen/migrations.o)
	$(archive)

# A service is its main.o and an archive of the rest of its folder, so that a unit test can link the rest without main().
define service_rules
$(BUILD)/lib/service_$(1).a: $(call objects,$(filter-out services/$(1)/main.c,$(sort $(wildcard services/$(1)/*.c))))
	$$(archive)
$(BUILD)/bin/bore-$(1): $(BUILD)/obj/services/$(1)/main.o $(BUILD)/lib/service_$(1).a $(LIBRARIES)
	@mkdir -p $$(@D)
	$$(call announce,link)
	$$(LINK) -o $$@ $$^ $(PACKAGE_LIBS)
endef
$(foreach service,$(SERVICES),$(eval $(call service_rules,$(service))))

$(BUILD)/tools/%: $(BUILD)/obj/proto/tools/%.o $(LIBRARIES)
	@mkdir -p $(@D)
	$(call announce,link)
	$(LINK) -o $@ $^ $(PACKAGE_LIBS)

# The dashboard, and the packages from npm that it is made with. Not complete: the registry was out of reach and the
# previous build's packages are in use; the next make tries again.
$(BUILD)/web/.complete: $(WEB_SOURCES) tools/build_web.sh
	$(call announce,pages)
	$(Q)tools/build_web.sh $(BUILD)

docs: $(TOOLS)  ## write docs/protocol.md, docs/metrics.md, the settings in README.md and .env.example, from their tables
	@mkdir -p docs
	$(BUILD)/tools/protocol_doc > docs/protocol.md.new && mv docs/protocol.md.new docs/protocol.md
	$(Q)awk -f tools/metrics_doc.awk services/lib/metrics.def > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md
	$(Q)for file in README.md .env.example; do \
	    awk -f tools/settings_doc.awk services/lib/config.def $$file > $$file.new && mv $$file.new $$file || exit 1; done

# --- unit tests: one cmocka program each -------------------------------------------------------------------------
# tests/unit/test_<service>_*.c (or test_<service>.c) is linked with that service's objects, main.o left out. Every
# other tests/unit/*.c is shared by all of them.
$(BUILD)/lib/libunit_support.a: $(call objects,$(UNIT_SUPPORT_SOURCES))
	$(archive)

service_of_test = $(filter $(SERVICES),$(firstword $(subst _, ,$(patsubst fuzz_%,%,$(patsubst test_%,%,$(1))))))
define unit_test_rule
$(BUILD)/test/$(1): $(BUILD)/obj/tests/unit/$(1).o $(BUILD)/lib/libunit_support.a $(patsubst %,$(BUILD)/lib/service_%.a,$(call service_of_test,$(1))) $(LIBRARIES)
	@mkdir -p $$(@D)
	$$(call announce,link)
	$$(LINK) -o $$@ $$^ -lcmocka $(PACKAGE_LIBS)
endef
$(foreach test,$(notdir $(UNIT_TESTS)),$(eval $(call unit_test_rule,$(test))))

unit-tests: $(UNIT_TESTS)

# tests/bench/<name>.c: a measurement of one part, with tests/bench/<name>/*.c and the unit tests' shared sources.
BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_SOURCES))
define bench_rule
$(BUILD)/bench/$(1): $(BUILD)/obj/tests/bench/$(1).o $(call objects,$(sort $(wildcard tests/bench/$(1)/*.c))) $(BUILD)/lib/libunit_support.a $(LIBRARIES)
	@mkdir -p $$(@D)
	$$(call announce,link)
	$$(LINK) -o $$@ $$^ $(PACKAGE_LIBS)
endef
$(foreach bench,$(notdir $(BENCHES)),$(eval $(call bench_rule,$(bench))))

benches: $(BENCHES)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# --- running and testing -----------------------------------------------------------------------------------------
run:  ## build, start everything, follow the logs until Ctrl-C (PORT, SCALE, BORE_HOME: see README.md)
	@./bore run

start:  ## the same in the background
	@./bore start

stop:  ## stop everything that start or run started
	@./bore stop

status:  ## one line for each process
	@./bore status

test:  ## unit and system tests; ends with "N passed, N failed"
	@./bore test

unit: all unit-tests  ## unit tests alone
	@BUILD=$(BUILD) tests/run.sh unit

system: all  ## system tests alone: real processes, real PostgreSQL
	@BUILD=$(BUILD) tests/run.sh system

# What the tests in JavaScript need.
tests/node_modules/.package-lock.json: tests/package-lock.json
	@cd tests && npm ci --no-audit --no-fund --loglevel=error

sanitize:  ## unit and system tests under ASan and UBSan
	@tests/run.sh sanitize

bench:  ## requests/s and latencies beside the machine's own yardsticks (on a machine that does nothing else)
	@BUILD=$(BUILD) ./bore test bench

chaos:  ## the crash test, the outages, and a receiver of alerts that is down, in full length
	@BUILD=$(BUILD) ./bore test chaos

# --- containers --------------------------------------------------------------------------------------------------
, := ,
env:  ## write .env, with the secrets that it lacks
	@deploy/make_env.sh

image:  ## build the image bore-backend
	@docker build -t bore-backend:$(VERSION_TEXT) --build-arg VERSION=$(VERSION_TEXT) \
	    $(if $(BUILD_CA_FILE),--secret id=ca$(,)src=$(BUILD_CA_FILE)) --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" -f deploy/Dockerfile .

test-compose: tests/node_modules/.package-lock.json  ## docker compose, tried whole: scaling, crashes, isolation, backup (skipped where no engine runs)
	@node tests/compose/run.js

# Programs, pages, the edge's configuration and systemd's units, for those who run neither ./bore nor containers.
install: all  ## install for systemd, below DESTDIR
	install -d $(DESTDIR)/usr/lib/bore $(DESTDIR)/usr/share/bore/edge $(DESTDIR)/usr/local/bin $(DESTDIR)/etc/bore $(DESTDIR)/etc/systemd/system/bore-.service.d
	install -m 755 $(PROGRAMS) $(DESTDIR)/usr/lib/bore/
	rm -rf $(DESTDIR)/usr/share/bore/web && cp -r $(BUILD)/web $(DESTDIR)/usr/share/bore/web
	install -m 644 deploy/haproxy.cfg deploy/container/edge.cfg $(DESTDIR)/usr/share/bore/edge/
	install -m 644 docs/operations.md $(DESTDIR)/usr/share/bore/
	install -m 755 deploy/container/bore $(DESTDIR)/usr/local/bin/bore
	install -m 644 $(wildcard deploy/systemd/*.service) deploy/systemd/bore.target $(DESTDIR)/etc/systemd/system/
	install -m 644 deploy/systemd/bore-.service.d/common.conf $(DESTDIR)/etc/systemd/system/bore-.service.d/
	for file in bore.env backends.cfg; do [ -e $(DESTDIR)/etc/bore/$$file ] || install -m 640 deploy/systemd/$$file $(DESTDIR)/etc/bore/; done

# --- fuzzing -----------------------------------------------------------------------------------------------------
# FUZZ_SECONDS for each target; the corpus is kept in tests/fuzz/corpus/<name>. tests/fuzz/fuzz_<service>_*.c is linked
# with that service's objects.
FUZZ_SECONDS ?= 20
ifeq ($(SANITIZE),fuzz)
define fuzzer_rule
$(BUILD)/fuzzers/$(1): $(BUILD)/obj/tests/fuzz/$(1).o $(patsubst %,$(BUILD)/lib/service_%.a,$(call service_of_test,$(1))) $(LIBRARIES)
	@mkdir -p $$(@D)
	$$(call announce,link)
	$$(LINK) -fsanitize=fuzzer -o $$@ $$^ $(PACKAGE_LIBS)
endef
$(foreach fuzzer,$(notdir $(FUZZERS)),$(eval $(call fuzzer_rule,$(fuzzer))))
fuzzers: $(FUZZERS)
endif

fuzz:  ## run each fuzz target for FUZZ_SECONDS (20) with its kept corpus
	@$(MAKE) --no-print-directory -j$(JOBS) SANITIZE=fuzz BUILD=build/fuzz fuzzers
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/run_fuzzers.sh build/fuzz/fuzzers

# --- lint --------------------------------------------------------------------------------------------------------
LINT_STAMPS := $(patsubst %.c,$(BUILD)/lint/%.ok,$(ALL_SOURCES))

lint: format-check layering-check shell-check docs-check metrics-check web-check static-check  ## format, layers, shell, documentation, types of the dashboard, clang, clang-tidy
	@echo "lint: clean"

format:  ## let clang-format decide the layout
	@clang-format -i $(ALL_SOURCES) $(ALL_HEADERS)

format-check:
	@clang-format --dry-run -Werror $(ALL_SOURCES) $(ALL_HEADERS)

layering-check:
	@tools/check_layers.sh

shell-check:
	@tools/check_shell.sh

# The metrics counted are those declared; Prometheus's own judgement on rules and configuration.
metrics-check:
	@tools/check_metrics.sh
	@tools/check_prometheus.sh

docs-check: $(TOOLS)
	@tools/check_docs.sh $(BUILD)/tools

# The dashboard's types, declared by JSDoc.
web-check: $(WEB)/node_modules/typescript/package.json
	@$(WEB)/node_modules/.bin/tsc -p $(WEB)

$(WEB)/node_modules/typescript/package.json: $(WEB)/package-lock.json
	@cd $(WEB) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/typescript/package.json

static-check: $(LINT_STAMPS)

# A second compiler's opinion, then clang-tidy's; a stamp for each file, so that only what changed is looked at again.
$(BUILD)/lint/%.ok: %.c .clang-tidy Makefile | $(BUILD)/gen/version.h
	@mkdir -p $(@D)
	@clang $(BASE_FLAGS) -O2 $(INCLUDES) -fsyntax-only -MMD -MP -MF $(@:.ok=.d) -MT $@ $<
	@clang-tidy --quiet $< -- $(BASE_FLAGS) $(INCLUDES) 2>$(@:.ok=.log) || { cat $(@:.ok=.log) >&2; exit 1; }
	@touch $@

-include $(patsubst %.ok,%.d,$(LINT_STAMPS))

clean:  ## remove all products (the state under BORE_HOME stays)
	rm -rf build
