# ballast: one Makefile, nothing generated but build/. `make help` lists the targets.
#
# Three builds of the same sources: plain (build/), with gcc's sanitizers (build/asan/) and for fuzzing with clang
# (build/fuzz/). Objects depend on this file, so that a change of flags here rebuilds them.

CC        ?= cc
CLANG     ?= clang
CFLAGS    ?= -O2 -g
WERROR    ?= -Werror
PREFIX    ?= /usr/local
JOBS      ?= $(shell nproc 2>/dev/null || echo 2)
# Seconds each fuzz target runs: `make fuzz FUZZ_SECONDS=600`.
FUZZ_SECONDS ?= 60

# Cutting text short is what snprintf is for here; whether gcc can tell changes with every flag.
WARNINGS  := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unknown-warning-option \
             -Wno-format-truncation $(WERROR)
BASE      := -std=gnu11 -pthread -I. -MMD -MP $(WARNINGS)
LIBS      := -lglpk -lgsl -lgslcblas -lcsv -ljansson -ldnnl -luring -lpcre2-8 -lhwloc -lm -lpthread -lgomp -ldl
ASAN      := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ      := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined

# `ballast sweep` spreads over nodes where this is found; `make MPI=` builds without.
MPI       ?= $(shell pkg-config --exists ompi-c 2>/dev/null && echo ompi-c)
# The bundle does without MPI, and takes what it needs of GSL instead of all of it.
BUNDLE_LIBS := $(patsubst -lgsl%,-l:libgsl%.a,$(LIBS))
ifneq ($(MPI),)
LIBS      += $(shell pkg-config --libs $(MPI))
endif

# `make V=1` shows whole commands instead of a line each.
say        = $(if $(V),,@printf '  %-5s %s\n' $(1) $@;)

B         := build
LIB_SRC   := $(wildcard model/*.c solver/*.c executor/*.c executor/cpu/*.c executor/sim/*.c traces/*.c plots/*.c)
CLI_SRC   := $(filter-out cli/ballast.c,$(wildcard cli/*.c))
TEST_SRC  := $(wildcard tests/test_*.c)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard bench/bench_*.c)
CUDA_SRC  := $(wildcard executor/cuda/*.cu)
EMU_TESTS := $(wildcard tests/emu/test_*.c)
DATA      := $(wildcard model/data/*/*.json papers/*/published.csv)

TESTS      := $(TEST_SRC:tests/%.c=$B/tests/%) $(EMU_TESTS:tests/%.c=$B/tests/%)
ASAN_TESTS := $(TEST_SRC:tests/%.c=$B/asan/tests/%) $(EMU_TESTS:tests/%.c=$B/asan/tests/%)
FUZZERS    := $(FUZZ_SRC:tests/fuzz/%.c=$B/fuzz/%)
BENCHES    := $(BENCH_SRC:bench/%.c=$B/bench/%)

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: help all cuda bundle test check demo papers bench fuzz fuzz-build asan asan-build test-build layers format format-check lint clean deps \
        install uninstall FORCE

all: $B/ballast ## build build/ballast (the default)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

# -- sources to objects: a rule for each of the three builds ---------------------------------------------------------

$B/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(BASE) $(CPPFLAGS) $(CFLAGS) $(EXTRA) -c $< -o $@

$B/asan/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(BASE) $(CPPFLAGS) $(ASAN) $(EXTRA) -c $< -o $@

$B/fuzz/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CLANG)$(CLANG) $(BASE) $(CPPFLAGS) $(FUZZ) -fsanitize=fuzzer-no-link,address,undefined $(EXTRA) -c $< -o $@

# Presets and machine profiles travel inside the binary.
$B/gen/data.S: scripts/embed_data.sh $(DATA) $B/gen/data.list
	@mkdir -p $(@D)
	$(call say,GEN)scripts/embed_data.sh $@

$B/gen/data.o: $B/gen/data.S Makefile
	$(call say,AS)$(CC) -c $< -o $@

# Files whose content is a fact of this moment; they change only when it does. A source that vanished changes its list, so
# that no archive keeps a stale member.
update = mkdir -p $(@D); printf '%s\n' '$(1)' | cmp -s - $@ || printf '%s\n' '$(1)' >$@
$B/gen/data.list: FORCE
	@$(call update,$(DATA))
$B/gen/lib.list: FORCE
	@$(call update,$(LIB_SRC))
$B/gen/cli.list: FORCE
	@$(call update,$(CLI_SRC))
$B/gen/mpi: FORCE
	@$(call update,$(MPI))
$B/gen/commit: FORCE
	@$(call update,$(shell git describe --always --dirty 2>/dev/null))

$B/obj/cli/version.o $B/asan/obj/cli/version.o: CPPFLAGS += -DBALLAST_COMMIT='"$(shell cat $B/gen/commit 2>/dev/null)"'
$B/obj/cli/version.o $B/asan/obj/cli/version.o: $B/gen/commit

ifneq ($(MPI),)
$B/obj/cli/ranks.o $B/asan/obj/cli/ranks.o: CPPFLAGS += -DBALLAST_MPI $(shell pkg-config --cflags $(MPI))
endif
$B/obj/cli/ranks.o $B/asan/obj/cli/ranks.o: $B/gen/mpi

# -- CUDA: kernels for a GPU through nvcc, and the same sources as C++ for the CPU (tests/emu/emu.h) -----------------------

CXX        ?= c++
NVCC       ?= $(firstword $(wildcard build/cuda-13/bin/nvcc /usr/local/cuda/bin/nvcc) nvcc)
CUDART     ?= static
# Machine code for every card since Turing, PTX for those to come.
CUDA_ARCHS := 75 80 86 89 90
GENCODE    := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) -gencode arch=compute_90,code=compute_90
CUDA_FLAGS := -std=c++17 -O3 -lineinfo -Xfatbin -compress-all -I. -Xcompiler -fPIC,-Wall,-Wno-unknown-pragmas $(GENCODE)
EMU_FLAGS  := -std=gnu++17 -pthread -fPIC -Itests/emu -I. -MMD -MP -Wall -Wextra -Wshadow -Wno-unknown-pragmas $(WERROR)
EMU_OBJ    := $(CUDA_SRC:%.cu=obj/%.emu.o) obj/tests/emu/self.emu.o obj/tests/emu/fibers.emu.o obj/tests/emu/runtime.emu.o \
              obj/tests/emu/cublas.emu.o
# What the library needs of the rest: linked into it, since a program lends its own functions to nobody.
CUDA_LEND  := model/device_rows.c model/error.c model/format.c model/layer.c

$B/cuda/%.o: %.cu Makefile
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(CUDA_FLAGS) -MMD -MF $(@:.o=.d) -c $< -o $@

$B/cuda/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(BASE) $(CFLAGS) -fPIC -c $< -o $@

$B/libballast_cuda.so: $(CUDA_SRC:%.cu=$B/cuda/%.o) $(CUDA_LEND:%.c=$B/cuda/%.o)
	$(call say,LD)$(NVCC) -shared -cudart $(CUDART) -Xlinker -soname=$(@F),-z,defs -o $@ $^ -ldl

# The same library for a machine without a GPU, to test what loads it: BALLAST_CUDA=build/emu/libballast_cuda.so.
$B/emu/libballast_cuda.so: $(EMU_OBJ:%=$B/%) $(CUDA_LEND:%.c=$B/cuda/%.o) $B/cuda/executor/cpu/half.o
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) -shared -pthread -Wl,-Bsymbolic -Wl,-z,defs $(LDFLAGS) -o $@ $^ -ldnnl -lgomp -ldl

$B/obj/%.emu.o: %.cu Makefile
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(CFLAGS) -x c++ -c $< -o $@
$B/obj/%.emu.o: %.cc Makefile
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(CFLAGS) -c $< -o $@
$B/asan/obj/%.emu.o: %.cu Makefile
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(ASAN) -x c++ -c $< -o $@
$B/asan/obj/%.emu.o: %.cc Makefile
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(ASAN) -c $< -o $@

# Their CUDA is the emulation's: what they call of it is the same in the real one.
$B/obj/tests/emu/%.o $B/asan/obj/tests/emu/%.o: CPPFLAGS += -Itests/emu

# Named, not patterns: make would prefer $B/tests/% while an object of these is still to be made.
$(EMU_TESTS:tests/%.c=$B/tests/%): $B/tests/emu/%: $B/obj/tests/emu/%.o $(EMU_OBJ:%=$B/%) $B/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) -pthread $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS)
$(EMU_TESTS:tests/%.c=$B/asan/tests/%): $B/asan/tests/emu/%: $B/asan/obj/tests/emu/%.o $(EMU_OBJ:%=$B/asan/%) $B/asan/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) -pthread $(ASAN) $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS)

# -- the bundle: programs that find their libraries beside themselves, and tests that run on a GPU -------------------------------

# A program's own path holds for the libraries of its libraries too, which the newer kind of tag does not.
rpath        = -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/$(1)'
BUNDLE      := $B/bundle
# Those of the emulation, less the ones about the emulation itself, with one small runner in Criterion's place (tests/plain).
# The kernels' come first: what needs them says less.
DEVICE_SRC  := tests/emu/test_cuda_kernels.c $(filter-out %/test_emulation.c %/test_cuda_kernels.c,$(EMU_TESTS)) tests/plain/main.c
DEVICE_OBJ  := $(DEVICE_SRC:%.c=$B/plain/%.o)

$B/plain/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)$(CC) -Itests/plain -Itests/emu $(BASE) -Wno-format-zero-length $(CFLAGS) -c $< -o $@

$(BUNDLE)/build/ballast: $B/obj/cli/ballast.o $B/plain/cli/ranks.o $B/libcli.a $B/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -s -pthread $(LDFLAGS) $(call rpath,lib) -o $@ $^ $(BUNDLE_LIBS)

$(BUNDLE)/build/libballast_cuda.so: $B/libballast_cuda.so
	@mkdir -p $(@D)
	@strip -o $@ $<

# Kernels from the library, not twice; CUDA's runtime of its own, which shares the device's context with the library's.
$(BUNDLE)/build/tests/device: $(DEVICE_OBJ) $B/plain/tests/plain/on_device.o $B/libballast.a $(BUNDLE)/build/libballast_cuda.so
	@mkdir -p $(@D)
	$(call say,LD)$(NVCC) -cudart $(CUDART) -Xlinker -s,--disable-new-dtags,-rpath,'$$ORIGIN/..:$$ORIGIN/../lib' -o $@ $^ $(BUNDLE_LIBS)

# The same program on the emulation.
$B/emu/device: $(DEVICE_OBJ) $(EMU_OBJ:%=$B/%) $B/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CXX) -pthread $(LDFLAGS) -o $@ $^ $(BUNDLE_LIBS)

# Tests of the runner itself (tests/test_plain_runner.sh).
$B/plain/self: $B/plain/tests/plain/self.o $B/plain/tests/plain/main.o $B/plain/tests/plain/on_device.o
	$(call say,LD)$(CC) $(LDFLAGS) -o $@ $^

# -- archives and programs -------------------------------------------------------------------------------------------

archive = $(call say,AR)mkdir -p $(@D); rm -f $@; ar qcs $@ $(filter %.o,$^)

$B/libballast.a: $(LIB_SRC:%.c=$B/obj/%.o) $B/gen/data.o $B/gen/lib.list
	$(archive)
$B/libcli.a: $(CLI_SRC:%.c=$B/obj/%.o) $B/gen/cli.list
	$(archive)
$B/asan/libballast.a: $(LIB_SRC:%.c=$B/asan/obj/%.o) $B/gen/data.o $B/gen/lib.list
	$(archive)
$B/asan/libcli.a: $(CLI_SRC:%.c=$B/asan/obj/%.o) $B/gen/cli.list
	$(archive)
$B/fuzz/libballast.a: $(LIB_SRC:%.c=$B/fuzz/obj/%.o) $B/gen/data.o $B/gen/lib.list
	$(archive)
$B/fuzz/libcli.a: $(CLI_SRC:%.c=$B/fuzz/obj/%.o) $B/gen/cli.list
	$(archive)

$B/ballast: $B/obj/cli/ballast.o $B/libcli.a $B/libballast.a
	$(call say,LD)$(CC) -pthread $(LDFLAGS) -o $@ $^ $(LIBS)

$B/tests/%: $B/obj/tests/%.o $B/libcli.a $B/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -pthread $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS)

$B/asan/tests/%: $B/asan/obj/tests/%.o $B/asan/libcli.a $B/asan/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -pthread $(ASAN) $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS)

$B/fuzz/%: $B/fuzz/obj/tests/fuzz/%.o $B/fuzz/libcli.a $B/fuzz/libballast.a
	$(call say,LD)$(CLANG) -pthread -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $^ $(LIBS)

$B/bench/%: $B/obj/bench/%.o $B/libcli.a $B/libballast.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -pthread $(LDFLAGS) -o $@ $^ $(LIBS)

# -- what people type ------------------------------------------------------------------------------------------------

test-build: all $(TESTS) $B/emu/libballast_cuda.so $B/emu/device $B/plain/self
asan-build: $(ASAN_TESTS)
fuzz-build: $(FUZZERS)

test: ## install what is missing, build, run every test (units, CLI, sanitizers, nvcc, short fuzzing, layers, format)
	@scripts/install_deps.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) test-build asan-build
	@scripts/run_tests.sh $(TESTS) $(sort $(wildcard tests/test_*.sh)) scripts/layers.sh scripts/check_format.sh \
	    $(ASAN_TESTS) scripts/check_cuda.sh scripts/check_bundle.sh \
	    scripts/check_gpu_bench.sh scripts/check_fuzz.sh

check: ## the quick part of test: units, CLI, layers, format
	@scripts/install_deps.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) test-build
	@scripts/run_tests.sh $(TESTS) $(sort $(wildcard tests/test_*.sh)) scripts/layers.sh scripts/check_format.sh

demo: ## install what is missing, build, profile this machine, plan, run, trace, plot and report (under 3 minutes)
	@scripts/install_deps.sh run
	@$(MAKE) --no-print-directory -j$(JOBS) WERROR= all
	@scripts/demo.sh

bench: all $(BENCHES) ## measure everything into bench/results/ (about 40 minutes, 45 GB of disk; run nothing else meanwhile)
	@scripts/install_deps.sh test
	@bench/run.sh

asan: asan-build ## the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/run_tests.sh $(ASAN_TESTS)

fuzz: ## run every fuzz target for FUZZ_SECONDS (60) seconds
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/run_tests.sh scripts/check_fuzz.sh

cuda: $B/libballast_cuda.so ## compile libballast_cuda.so with nvcc (docs/cuda.md)

bundle: $(BUNDLE)/build/ballast $(BUNDLE)/build/libballast_cuda.so $(BUNDLE)/build/tests/device ## a folder that runs on a GPU machine where nothing can be installed: build/bundle
	@scripts/bundle.sh $(BUNDLE)

papers: all ## regenerate the papers' tables, and their figures in build/papers (under a minute)
	@papers/flexgen/make.sh

layers: ## check who includes whom, and file sizes
	@scripts/layers.sh

format: ## reformat every C file with clang-format
	@scripts/format.sh

format-check: ## check the formatting, change nothing
	@scripts/format.sh --check

lint: ## static analysis with cppcheck
	@scripts/check_lint.sh

deps: ## install the packages that are missing for building, running and testing
	@scripts/install_deps.sh test

install: all ## install into PREFIX (/usr/local), honouring DESTDIR
	install -D -m 755 $B/ballast $(DESTDIR)$(PREFIX)/bin/ballast
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/ballast/LICENSE
	install -d $(DESTDIR)$(PREFIX)/share/ballast/plots
	install -m 644 $(wildcard plots/*.gp) $(DESTDIR)$(PREFIX)/share/ballast/plots

uninstall: ## remove what install put there
	rm -rf $(DESTDIR)$(PREFIX)/bin/ballast $(DESTDIR)$(PREFIX)/share/doc/ballast $(DESTDIR)$(PREFIX)/share/ballast

clean: ## remove build/
	rm -rf $B

-include $(shell find $B -name '*.d' 2>/dev/null)
