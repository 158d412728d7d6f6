# PHOTON: one non-recursive build. `make help` lists the targets.
BUILD   ?= build
ifeq ($(origin CC),default)
CC       = gcc
endif
PREFIX  ?= /usr
DESTDIR ?=
SYSCONFDIR ?= /etc
OPT     ?= -O2 -g
WARN     = -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-format-zero-length -Werror
SAN     ?=
# make V=1 shows whole commands.
Q        = $(if $(V),,@)
say      = $(if $(V),,@printf '  %-4s %s\n' $(1) $(2))
CFLAGS  += -std=c11 -D_GNU_SOURCE $(OPT) $(WARN) $(SAN) -fno-strict-aliasing -fstack-protector-strong -I. -I$(BUILD)/proto -MMD -MP
LDFLAGS += $(SAN) -Wl,--as-needed

LIBS_COMMON = -lnng -lmbedtls -lmbedx509 -lmbedcrypto -lnettle -lprotobuf-c -lcjson -luv -lyaml -lpthread -lm
LIBS_HUB    = $(LIBS_COMMON) -lsqlite3 -lmicrohttpd -lgnutls -lcurl
LIBS_AGENT  = $(LIBS_COMMON) -lcurl -lseccomp
LIBS_CLI    = -lcurl -lcjson -luv -lyaml -lmbedcrypto -lm -lpthread

PROTOS     := $(wildcard proto/photon/v1/*.proto)
PROTO_C    := $(PROTOS:%.proto=$(BUILD)/%.pb-c.c)
PROTO_H    := $(PROTOS:%.proto=$(BUILD)/%.pb-c.h)
COMMON_C   := $(wildcard common/*.c)
HUB_C      := $(filter-out hub/main.c,$(wildcard hub/*.c hub/*/*.c))
AGENT_C    := $(filter-out agent/main.c agent/sandbox/launcher.c,$(wildcard agent/*.c agent/*/*.c))
CLI_C      := $(wildcard cli/*.c)
TESTLIB_C  := $(filter-out tests/lib/main.c,$(wildcard tests/lib/*.c))
UNIT_C     := $(wildcard tests/unit/*.c)
SIM_C      := $(wildcard tests/sim/*.c)
TOOLS_C    := $(wildcard tests/tools/*.c)
FUZZ_C     := $(wildcard tests/fuzz/fuzz_*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
COMMON_O := $(call obj,$(COMMON_C)) $(PROTO_C:%.c=%.o)
HUB_O    := $(call obj,$(HUB_C))
AGENT_O  := $(call obj,$(AGENT_C))
CLI_O    := $(call obj,$(CLI_C))

all: $(BUILD)/photon-hub $(BUILD)/photon-agent $(BUILD)/photon-launch $(BUILD)/photon ## the programs

$(BUILD)/%.pb-c.c $(BUILD)/%.pb-c.h: %.proto
	@mkdir -p $(BUILD)/proto
	$(call say,PROTO,$<)
	$(Q)protoc-c -Iproto --c_out=$(BUILD)/proto $<

# Generated code is not ours: no -Werror, no shadow warnings.
$(BUILD)/proto/%.o: $(BUILD)/proto/%.c | $(PROTO_H)
	$(call say,CC,$<)
	$(Q)$(CC) -std=c11 $(OPT) $(SAN) -w -I$(BUILD)/proto -c $< -o $@

$(BUILD)/obj/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS) -c $< -o $@

# A hub with a route or an MCP tool that is not in the table of permissions is not built (where there is a
# Python to look; `make lint` and the unit tests look everywhere).
ACCESS = hub/model/access.h hub/http/router.c hub/http/mcp_table.c hub/http/api.h
$(BUILD)/access.checked: $(ACCESS) tests/lint/lint.py
	$(Q)if command -v python3 >/dev/null; then python3 tests/lint/lint.py access; fi
	$(Q)touch $@

$(BUILD)/photon-hub: $(call obj,hub/main.c) $(HUB_O) $(COMMON_O) | $(BUILD)/access.checked
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_HUB)
# The hub with what the MCP conformance suite wants to call (tests/conformance): the same objects, and more.
$(BUILD)/tests/photon-hub-mcp: $(call obj,hub/main.c $(wildcard tests/conformance/*.c)) $(HUB_O) $(COMMON_O)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_HUB)
$(BUILD)/photon-agent: $(call obj,agent/main.c) $(AGENT_O) $(COMMON_O)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_AGENT)
# No C library and no sanitizer: it is exec'd before each call's own program (agent/sandbox/launch_sys.h).
$(BUILD)/photon-launch: agent/sandbox/launcher.c agent/sandbox/launch.h agent/sandbox/launch_sys.h
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -Os $(WARN) -I. -static -nostdlib -ffreestanding -fno-stack-protector \
		-fno-asynchronous-unwind-tables -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noexecstack $< -o $@
$(BUILD)/photon: $(CLI_O) $(call obj,common/auditchain.c common/err.c common/mem.c common/buf.c common/str.c common/encode.c common/map.c common/clock.c common/id.c common/log.c common/json.c common/json_mend.c common/json_scan.c common/json_schema.c common/secret.c common/file.c common/conf.c common/yaml.c)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_CLI)
$(BUILD)/tests/unit: $(call obj,tests/lib/main.c $(TESTLIB_C) $(UNIT_C)) $(HUB_O) $(AGENT_O) $(COMMON_O)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_HUB) -lseccomp
$(BUILD)/tests/sim: $(call obj,tests/lib/main.c $(TESTLIB_C) $(SIM_C)) $(HUB_O) $(AGENT_O) $(COMMON_O)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_HUB) -lseccomp

# The tools with a fake job instead of agent/job.c, and nothing of the network.
NET_C = $(wildcard common/rpc*.c common/link*.c common/pki*.c common/tls*.c common/x509*.c)
$(BUILD)/tests/tools: $(call obj,tests/lib/main.c tests/lib/test.c $(TOOLS_C) $(wildcard agent/policy*.c agent/tools/*.c) $(filter-out %/launcher.c,$(wildcard agent/sandbox/*.c)) $(filter-out $(NET_C),$(COMMON_C)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_AGENT)

clean: ## remove every build folder
	rm -rf $(BUILD) build-asan build-tsan

# --- tests and checks; `make help` ------------------------------------------
ASAN         = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_SECONDS ?= 10
TESTS        ?=
TEST_BINS    = $(BUILD)/tests/unit $(BUILD)/tests/tools $(if $(SIM_C),$(BUILD)/tests/sim)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

unit: $(BUILD)/tests/unit $(BUILD)/photon-launch ## unit tests; TESTS="area.name ..." picks some
	$< $(TESTS)
tools: $(BUILD)/tests/tools $(BUILD)/photon-launch ## the agent's tools, each error of each
	$< $(TESTS)
sim: $(BUILD)/tests/sim ## hub and agents in one process
	$< $(TESTS)
run-tests: $(TEST_BINS) $(BUILD)/photon-launch
	@set -e; for t in $(TEST_BINS); do echo $$t; $$t $(TESTS); done

e2e: all $(BUILD)/tests/photon-hub-mcp ## real programs end to end, two tests at a time; E2E="name ..." picks some
	BUILD=$(abspath $(BUILD)) python3 tests/e2e/run.py $(E2E)
conformance: all $(BUILD)/tests/photon-hub-mcp ## the official MCP suite against the hub, both revisions
	BUILD=$(abspath $(BUILD)) python3 tests/e2e/run.py test_mcp_server.Official
deploy-test: all ## units, make install
	BUILD=$(abspath $(BUILD)) python3 tests/e2e/run.py --dir tests/deploy

test: deps-test ## everything that must hold before a change lands
	@BUILD=$(BUILD) MAKE="$(MAKE)" python3 tests/all.py

check-cli: $(BUILD)/photon ## the command line against a hub that is a table of answers
	BUILD=$(abspath $(BUILD)) python3 tests/e2e/run.py --dir tests/cli

check: all unit tools check-cli lint ## fast: build, unit tests, the command line, lint

lint: ## layers, sizes, headers, format; each check proves first that it can fail
	python3 tests/lint/selftest.py
	python3 tests/lint/lint.py
	python3 tests/lint/check_protocol.py --selftest
	python3 tests/lint/check_protocol.py
format: ## rewrite every .c and .h of ours
	python3 tests/lint/lint.py --fix

san: asan tsan ## tests under AddressSanitizer, UBSan and ThreadSanitizer
# One build for the tests and the fuzz targets: compiling it twice costs more than the counters of coverage.
ASAN_MAKE    = $(MAKE) BUILD=build-asan CC=clang OPT="-O1 -g" SAN="-fsanitize=fuzzer-no-link $(ASAN)"
asan:
	+$(ASAN_MAKE) run-tests
tsan:
	+TSAN_OPTIONS="halt_on_error=1 suppressions=tests/lib/tsan.supp $$TSAN_OPTIONS" \
		$(MAKE) BUILD=build-tsan CC=clang OPT="-O1 -g" SAN="-fsanitize=thread" run-tests

# An archive, so that a target links only what it uses.
$(BUILD)/libphoton.a: $(COMMON_O) $(HUB_O) $(AGENT_O)
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)ar rcs $@ $^
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/libphoton.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ -o $@ $(LIBS_HUB) -lseccomp
fuzz-build: $(patsubst %.c,$(BUILD)/%,$(FUZZ_C))
fuzz: ## every fuzz target for FUZZ_SECONDS (10) each
	+$(ASAN_MAKE) fuzz-build
	tests/fuzz/run.sh build-asan $(FUZZ_SECONDS)

# --- benchmarks: bench/run.py runs them side by side ------------------------
BENCH_C     := $(wildcard bench/*.c)
BENCH_BINS   = $(patsubst bench/%.c,$(BUILD)/bench/%,$(BENCH_C))
BENCH        ?=
$(BENCH_BINS): $(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(BUILD)/libphoton.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_HUB) -lseccomp
# The peer, where gRPC is installed; without it its figures are missing.
$(BUILD)/bench/grpc_echo: bench/grpc/grpc_echo.cc bench/grpc/echo.proto
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)protoc -Ibench/grpc --cpp_out=$(@D) --grpc_out=$(@D) --plugin=protoc-gen-grpc=$$(command -v grpc_cpp_plugin) bench/grpc/echo.proto
	$(Q)$(CXX) -std=c++17 -O2 -w -I$(@D) bench/grpc/grpc_echo.cc $(@D)/echo.pb.cc $(@D)/echo.grpc.pb.cc -o $@ \
		$$(pkg-config --cflags --libs grpc++ protobuf)
bench-build: $(BUILD)/photon-hub $(BUILD)/photon-agent $(BUILD)/photon-launch $(BENCH_BINS)
	+@if pkg-config --exists grpc++ 2>/dev/null && command -v grpc_cpp_plugin >/dev/null; then \
		$(MAKE) --no-print-directory $(BUILD)/bench/grpc_echo; \
	else echo "bench: no gRPC here, so nothing beside RPC (deploy/deps.sh bench)" >&2; fi
bench: ## the figures beside their targets and peers, as JSON; BENCH="rpc dispatch" picks some
	-@deploy/deps.sh bench >&2
	+@$(MAKE) --no-print-directory bench-build >&2
	@python3 bench/run.py --build $(BUILD) $(BENCH)

# --- installing: nothing of the machine's own settings is ever overwritten ----
D        = $(DESTDIR)$(PREFIX)
DOC      = $(D)/share/doc/photon
UNIT_SED = sed -e 's,/usr/bin/,$(PREFIX)/bin/,g' -e 's,/usr/share/,$(PREFIX)/share/,g' -e 's,/etc/photon,$(SYSCONFDIR)/photon,g'
SYSTEMD_FILES = lib/systemd/system/photon-hub.service:photon-hub.service lib/systemd/system/photon-agent.service:photon-agent.service \
	lib/systemd/user/photon-agent.service:photon-agent-user.service lib/sysusers.d/photon.conf:photon.sysusers \
	lib/tmpfiles.d/photon.conf:photon.tmpfiles
COMPLETIONS = share/bash-completion/completions/photon:bash share/zsh/vendor-completions/_photon:zsh \
	share/fish/vendor_completions.d/photon.fish:fish

install: all ## to DESTDIR and PREFIX (/usr): programs, systemd units, completions, documents, /etc/photon
	install -d $(D)/bin $(DOC)/examples/tools.d $(DESTDIR)$(SYSCONFDIR)/photon/tools.d
	install -m 755 $(BUILD)/photon-hub $(BUILD)/photon-agent $(BUILD)/photon $(D)/bin
	install -d $(D)/libexec/photon
	install -m 755 $(BUILD)/photon-launch $(D)/libexec/photon
	@set -e; for f in $(SYSTEMD_FILES); do \
		install -d "$$(dirname "$(D)/$${f%%:*}")"; \
		$(UNIT_SED) "deploy/systemd/$${f##*:}" >"$(D)/$${f%%:*}"; chmod 644 "$(D)/$${f%%:*}"; done
	@set -e; for f in $(COMPLETIONS); do \
		install -d "$$(dirname "$(D)/$${f%%:*}")"; \
		$(BUILD)/photon completion "$${f##*:}" >"$(D)/$${f%%:*}"; chmod 644 "$(D)/$${f%%:*}"; done
	install -m 644 README.md $(wildcard docs/*.md) proto/PROTOCOL.md $(DOC)
	install -m 644 deploy/examples/*.yaml $(DOC)/examples
	install -m 644 deploy/examples/tools.d/*.yaml $(DOC)/examples/tools.d
	install -m 755 deploy/examples/tools.d/*.sh deploy/examples/tools.d/*.py $(DOC)/examples/tools.d
	@set -e; for f in hub.yaml agent.yaml policy.yaml; do to="$(DESTDIR)$(SYSCONFDIR)/photon/$$f"; \
		if [ -e "$$to" ]; then echo "kept $$to"; else $(UNIT_SED) "deploy/etc/$$f" >"$$to"; chmod 644 "$$to"; fi; done
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		systemd-sysusers $(D)/lib/sysusers.d/photon.conf && systemd-tmpfiles --create $(D)/lib/tmpfiles.d/photon.conf && \
		systemctl daemon-reload; fi

uninstall: ## the contrary; /etc/photon and /var/lib/photon-* stay
	rm -f $(D)/bin/photon-hub $(D)/bin/photon-agent $(D)/bin/photon
	rm -rf $(D)/libexec/photon
	rm -f $(foreach f,$(SYSTEMD_FILES) $(COMPLETIONS),$(D)/$(firstword $(subst :, ,$(f))))
	rm -rf $(DOC)
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

demo: ## installs, builds, starts a hub and three agents, runs a real workflow
	deploy/deps.sh
	+$(MAKE) all
	deploy/demo.sh

deps: ## install the Debian packages that building needs
	deploy/deps.sh
deps-test: ## and those that tests and lint need
	deploy/deps.sh test
	tests/peers/install.sh

.PHONY: install uninstall e2e conformance deploy-test test bench bench-build demo help unit tools sim run-tests check check-cli lint format san asan tsan fuzz fuzz-build deps deps-test

.SECONDARY: $(PROTO_C) $(PROTO_H)
.PHONY: all clean
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
