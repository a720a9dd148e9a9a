# The commands of a developer. `make help` lists them.

VERSION := $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

target := $(or $(CARGO_TARGET_DIR),target)
lib := $(target)/release/libdyups-$(VERSION).so

# Tests of the code itself need no link-time optimisation. Tests of the shipped library load the one that `make build` made. All
# are built with the hooks that the kill points need, so that the code is compiled once.
quick := --profile quick --locked --features killpoints

programs := $(basename $(notdir $(wildcard tests/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard tests/*/main.rs)))
kills := killpoints stopped hostile
code := $(filter-out $(kills) nginx,$(programs))

.PHONY: help deps build library run test test-build test-code test-kills test-nginx test-lua proof kill-points kill-release storm \
	model mutants memcheck fuzz matrix newcomer bench lint install header clean
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  make %-12s  %s\n' "$$name" "$$text"; done

deps: ## install what is missing to build, run, test and lint, and say what; FOR="bench fuzz" for other work
	@tools/deps -v $(or $(FOR),build run test lint)

build: ## build the library: target/release/libdyups-VERSION.so
	@tools/deps build
	@$(MAKE) --no-print-directory library

# nginx loads the library by a name with the version in it, and may be running with it: hence a new file and a rename.
library:
	$(CARGO) build --release --locked
	@cmp -s $(target)/release/libdyups.so $(lib) || { \
		cp $(target)/release/libdyups.so $(lib).tmp && mv -f $(lib).tmp $(lib); }

run: ## run the demo, nginx-test.conf, until Ctrl-C
	@$(MAKE) --no-print-directory deps FOR="build run"
	@$(MAKE) --no-print-directory library
	@exec tools/run

test: ## run the tests: Rust, Lua in a VM, and nginx; 8 minutes at most on 2 cores, the build included
	@$(MAKE) --no-print-directory deps FOR="build test"
	@tools/parts test-build test-code test-kills test-nginx test-lua

# The library that ships is one unit of code for one core: the tests are compiled beside it.
test-build: ## a part of test: the library and the test programs
	@$(MAKE) --no-print-directory -j 2 library programs

.PHONY: programs
programs:
	$(CARGO) test $(quick) --no-run

test-code: ## a part of test: the code, its documentation, the library by its C ABI and in a Lua VM
	$(CARGO) test $(quick) --lib $(addprefix --test ,$(code))
	$(CARGO) test $(quick) --doc

test-kills: ## a part of test: a sample of the kill points (DYUPS_SEED repeats one), stopped processes, hostile regions
	$(CARGO) test $(quick) $(addprefix --test ,$(kills))

# These tests mostly wait: more run side by side than there are cores.
test-nginx: ## a part of test: the library in nginx
	RUST_TEST_THREADS=6 $(CARGO) test $(quick) --test nginx

test-lua: ## a part of test: t/, the Lua functions in nginx
	tools/prove

proof: ## what takes longer: all kill points, kill-release, storm, model, mutants and memcheck
	@tools/parts kill-points kill-release storm model mutants memcheck

kill-points: ## kill a process at each store of each operation and of each repair
	@tools/deps build
	$(CARGO) test $(quick) --test killpoints -- --all

storm: ## kill 2,000 processes while they find and change, and as many workers of nginx under load
	@tools/deps build test
	@$(MAKE) --no-print-directory library
	DYUPS_STORM_KILLS=2000 $(CARGO) test $(quick) --test storm --test nginx -- storm

kill-release: ## step through all changes of the library that ships, and recover after each instruction
	@tools/deps build test
	@$(MAKE) --no-print-directory library
	$(CARGO) test $(quick) --test kill_release -- --ignored --nocapture

fuzz: ## fuzz a region that another process spoils, for FUZZ_SECONDS (600)
	@tools/deps build fuzz
	@exec tools/fuzz

model: ## explore the protocol under loom: every order of a few processes, within bounds
	@tools/deps build
	$(CARGO) test --release --locked --manifest-path models/Cargo.toml --target-dir $(target)/models -- --nocapture

memcheck: ## run a C program with the library under valgrind, and tests of the code under AddressSanitizer
	@tools/deps build memcheck
	@$(MAKE) --no-print-directory library
	DYUPS_TEST_RUNNER='valgrind -q --error-exitcode=1' $(CARGO) test $(quick) --test c_abi
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) test $(quick) --target-dir $(target)/asan \
		--target x86_64-unknown-linux-gnu --lib --test table --test full

mutants: ## break the code by each patch of tests/mutants, and see the tests notice; ONLY="fence bound" for some
	@tools/deps build test
	@exec tools/mutants $(ONLY)

matrix: ## run t/ and the nginx tests on the nginx of Debian's trixie and forky; ONLY=forky for one of them
	@tools/deps build roots
	@$(MAKE) --no-print-directory library
	@exec tools/matrix $(ONLY)

newcomer: ## run `make run` and `make test` of the last commit in a bare Debian 12
	@tools/deps roots
	@exec tools/newcomer

bench: ## measure: needs a quiet machine; ONLY="find contended" for some of it
	@tools/deps build bench
	@$(MAKE) --no-print-directory library
	CARGO_PROFILE_QUICK_OPT_LEVEL=3 $(CARGO) test --profile quick --locked --test partial --test statistics -- --ignored --nocapture
	$(CARGO) test $(quick) --test nginx -- --ignored --nocapture where_most_peers_stay
	CARGO_PROFILE_QUICK_OPT_LEVEL=3 $(CARGO) bench --profile quick --locked --bench bench -- $(ONLY)

lint: ## check format, lints, docs, imports, patches of mutants, and the rule about unsafe
	@tools/deps build lint
	@tools/lint

# Under sudo there is often no cargo. Then the library that was built before is installed.
install: $(if $(shell command -v $(CARGO) 2>/dev/null),build) ## install below PREFIX (/usr/local); DESTDIR is honoured
	@test -f $(lib) || { echo "install: no $(lib): run make build first" >&2; exit 1; }
	@VERSION='$(VERSION)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LIB='$(lib)' tools/install

header: ## write include/dyups.h anew from src/ffi
	DYUPS_WRITE_HEADER=1 $(CARGO) test --locked --test header

clean: ## remove what was built and what the demo wrote
	$(CARGO) clean
	rm -rf run
