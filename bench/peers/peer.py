"""One run of one system for bench/peers/run.sh, and the ratios of all of them.

    peer.py measure --placement memory|disk --dtype bf16|fp16|fp32 --model-dir DIR ...   CSV rows of a peer
    peer.py ballast --placement memory|disk --model-dir DIR ... -- COMMAND...            the CSV row of `ballast run`
    peer.py ratios FILE                                                                  CSV rows: medians of FILE, compared
    peer.py header                                                                       the CSV header
    peer.py versions REQUIREMENTS                                                        what is installed, against the pins

Rows go to stdout, everything else to stderr. Times are what a caller of generate() waits for: prefill_s ends with the first new
token of every sequence, decode_s with the last one.
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time

COLUMNS = ["system", "placement", "model", "batch", "prompt", "gen", "dtype", "load_s", "prefill_s", "decode_s",
           "throughput_tok_s", "disk_read_bytes", "peak_rss_bytes"]
TIMES = ["prefill_s", "decode_s", "throughput_tok_s"]
# What the goal is, by the kind of placement; a ratio below it is reported, not an error.
AIMS = {"memory": 1.5, "disk": 3.0}
# States of the page cache and the names of the placements that they make.
PLACEMENT_OF_PAGES = {"warm": "disk-page-cache", "cold": "disk-cold-start", "none": "disk-no-cache"}
MEASURED_AFTER_WARM_UP = 2  # repetitions asked of ballast: only with two or more does it warm up


def log(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def fail(text):
    log(text)
    sys.exit(3)


def write_rows(rows):
    # 6 digits: no clock here is better than that.
    writer = csv.DictWriter(sys.stdout, COLUMNS, restval="", lineterminator="\n")
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    sys.stdout.flush()


def describe(row):
    return (f"{row['system']} {row['placement']} {row['dtype']}: load {row['load_s']:.2f} s, prefill {row['prefill_s']:.3f} s, "
            f"decode {row['decode_s']:.3f} s, {row['throughput_tok_s']:.3f} tok/s")


# -- the page cache ----------------------------------------------------------------------------------------------------


def files_below(*directories):
    return [os.path.join(base, name) for d in directories if d for base, _, names in os.walk(d) for name in names]


def drop_file_pages(paths):
    """Asks the kernel to forget the cached pages of these files. Dirty pages cannot be dropped, so they are written first;
    pages that a process maps stay, so no weight of a disk-offloaded layer may be alive."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def disk_read_bytes():
    """Bytes that this process has fetched from a device; the page cache does not count. None where the kernel does not say."""
    try:
        with open("/proc/self/io", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("read_bytes"))
    except (OSError, StopIteration):
        return None


# -- the peers ---------------------------------------------------------------------------------------------------------


def quiet_libraries():
    import logging

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # that offloaded parameters are empty is the point


def layer_list(model):
    """Name and length of the list of decoder layers."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return name, len(module)
    raise ValueError(f"no list of {model.config.num_hidden_layers} decoder layers in {type(model).__name__}")


def layers_on_disk(model):
    """The device map with the decoder layers on disk and everything else (embeddings, last norm, head) in memory."""
    layers, n = layer_list(model)
    device_map = {f"{layers}.{i}": "disk" for i in range(n)}

    def rest(module, prefix):
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            if layers.startswith(path + "."):
                rest(child, path + ".")
            elif path != layers:
                device_map[path] = "cpu"

    rest(model, "")
    return device_map


def empty_model(model_dir, dtype):
    import transformers
    from accelerate import init_empty_weights

    config = transformers.AutoConfig.from_pretrained(model_dir)
    with init_empty_weights():
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)


def load_in_memory(args, dtype):
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(args.model_dir, dtype=dtype)


def load_on_disk(args, dtype):
    """`original`: transformers leaves the layers in the model's own safetensors files and converts them at every use.
    `folder`: Accelerate writes them once, in the type they are computed in, to files of its own."""
    import accelerate
    import transformers

    accelerate.utils.modeling.is_tqdm_available = lambda: False  # its progress bar has no switch
    model = empty_model(args.model_dir, dtype)
    device_map = layers_on_disk(model)
    if args.offload == "original":
        return transformers.AutoModelForCausalLM.from_pretrained(args.model_dir, dtype=dtype, device_map=device_map,
                                                                 offload_folder=args.offload_dir)
    model.tie_weights()
    return accelerate.load_checkpoint_and_dispatch(model, args.model_dir, device_map=device_map, dtype=dtype,
                                                   offload_folder=args.offload_dir).eval()


def check_loaded(model, placement):
    """A parameter without data would compute nothing and look fast."""
    layers, _ = layer_list(model)
    empty = {name for name, p in model.named_parameters() if p.device.type == "meta"}
    outside = sorted(name for name in empty if placement == "memory" or not name.startswith(layers + "."))
    inside = [name for name, _ in model.named_parameters() if name.startswith(layers + ".") and name not in empty]
    if outside:
        fail(f"{outside[0]}: expected in memory, found without data")
    if placement == "disk" and inside:
        fail(f"{inside[0]}: expected on disk, found in memory")


def random_prompts(args, vocab):
    """(batch, prompt) token ids. Ids 0..3 are special in OPT's vocabulary."""
    import torch

    generator = torch.Generator().manual_seed(args.seed)
    return torch.randint(4, vocab, (args.batch, args.prompt), generator=generator)


def stopwatch(between_steps):
    """A stopping criterion that never stops: it is called after every step, which is when the clock is read. between_steps runs
    off the clock."""
    import torch
    import transformers

    class Stopwatch(transformers.StoppingCriteria):
        def __init__(self):
            self.step_s = []
            self.since = time.perf_counter()

        def __call__(self, input_ids, scores, **kwargs):
            self.step_s.append(time.perf_counter() - self.since)
            between_steps()
            self.since = time.perf_counter()
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    return Stopwatch()


def generate(model, prompts, gen, between_steps=lambda: None):
    """Seconds of every step. Greedy and to the full length, whatever the random weights say."""
    import torch
    import transformers

    # The pad token is never used: all prompts are as long as the batch.
    config = transformers.GenerationConfig(do_sample=False, num_beams=1, use_cache=True, min_new_tokens=gen, max_new_tokens=gen,
                                           eos_token_id=None, pad_token_id=1)
    model.generation_config = config
    watch = stopwatch(between_steps)
    with torch.inference_mode():
        watch.since = time.perf_counter()
        out = model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=config,
                             stopping_criteria=transformers.StoppingCriteriaList([watch]))
    expected = (prompts.shape[0], prompts.shape[1] + gen)
    if tuple(out.shape) != expected or len(watch.step_s) != gen:
        fail(f"expected {expected} tokens in {gen} steps, found {tuple(out.shape)} in {len(watch.step_s)}")
    return watch.step_s


def measure_once(args, model, prompts, row, pages):
    """A row for one state of the page cache: `warm` is what earlier use left, `cold` is dropped before the prompt, `none` before
    every step, which is what a model larger than the memory sees: by the time a layer comes round, its pages are gone."""
    paths = files_below(args.model_dir, args.offload_dir) if args.placement == "disk" else []
    if pages != "warm":
        drop_file_pages(paths)
    before = disk_read_bytes()
    step_s = generate(model, prompts, args.gen, (lambda: drop_file_pages(paths)) if pages == "none" else lambda: None)
    after = disk_read_bytes()
    row["prefill_s"], row["decode_s"] = step_s[0], sum(step_s[1:])
    row["throughput_tok_s"] = args.batch * args.gen / sum(step_s)
    row["disk_read_bytes"] = after - before if before is not None and after is not None else ""
    row["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    log(f"{describe(row)}, {row['disk_read_bytes']} B from the disk")
    return row


def measure(args):
    quiet_libraries()
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[args.dtype]
    start = time.perf_counter()
    model = load_in_memory(args, dtype) if args.placement == "memory" else load_on_disk(args, dtype)
    load_s = time.perf_counter() - start
    model.eval()
    check_loaded(model, args.placement)
    prompts = random_prompts(args, model.config.vocab_size)
    generate(model, prompts, min(2, args.gen))  # warm-up: the prompt and a token after it
    rows = []
    for pages in args.pages if args.placement == "disk" else ["warm"]:
        rows.append(measure_once(args, model, prompts, {
            "system": "transformers" if args.placement == "memory" else f"accelerate-{args.offload}",
            "placement": "memory" if args.placement == "memory" else PLACEMENT_OF_PAGES[pages],
            "model": args.model, "batch": args.batch, "prompt": args.prompt, "gen": args.gen, "dtype": args.dtype,
            "load_s": load_s}, pages))
    write_rows(rows)


# -- ballast -----------------------------------------------------------------------------------------------------------


def math_of(profile):
    """Operands of the matrix products, as the machine's profile says."""
    with open(profile, encoding="utf-8") as f:
        units = json.load(f).get("compute", [])
    units = list(units.values()) if isinstance(units, dict) else units
    name = units[0].get("math", "") if units else ""
    return {"f32": "fp32"}.get(name, name)


def ballast(args):
    command = args.command + ["-r", str(MEASURED_AFTER_WARM_UP), "-o", "csv"]
    log("running: " + " ".join(f'"{c}"' if " " in c else c for c in command))
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    wall_s = time.perf_counter() - start
    if done.returncode != 0:
        fail(f"ballast {args.placement}: exit code {done.returncode}")
    found = next(csv.DictReader(done.stdout.splitlines()))
    prefill_s, decode_s = float(found["prefill_s"]), float(found["decode_s"])
    mean_tok_s = float(found["mean_throughput_tok_s"])
    tokens = args.batch * args.gen
    throughput_tok_s = tokens / (prefill_s + decode_s)
    # The trace's clock starts with the first operation; the mean is by the wall clock around the whole block.
    if abs(mean_tok_s / throughput_tok_s - 1) > 0.05:
        log(f"ballast {args.placement}: {throughput_tok_s:.3f} tok/s by the trace of the first repetition, {mean_tok_s:.3f} by"
            " the wall clock, mean of all: the machine is not quiet, or time is lost outside the trace")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = {"system": "ballast", "placement": args.placement, "model": args.model, "batch": args.batch, "prompt": args.prompt,
           "gen": args.gen, "dtype": math_of(args.profile),
           # the warm-up is taken to be as long as a measured repetition
           "load_s": max(0.0, wall_s - (1 + MEASURED_AFTER_WARM_UP) * tokens / mean_tok_s),
           "prefill_s": prefill_s, "decode_s": decode_s, "throughput_tok_s": throughput_tok_s,
           "peak_rss_bytes": usage.ru_maxrss * 1024}
    peaks = ", ".join(f"{k[len('peak_bytes.'):]} {v}" for k, v in found.items() if k.startswith("peak_bytes."))
    log(f"{describe(row)}; I/O: {found.get('io', '')}; peak bytes: {peaks}; {usage.ru_inblock * 512} B from the disk for"
        f" loading and {1 + MEASURED_AFTER_WARM_UP} generations")
    write_rows([row])


# -- ratios ------------------------------------------------------------------------------------------------------------


def medians(rows):
    """{(system, placement, dtype): row with the median of every time}, in the order of first appearance."""
    groups = {}
    for row in rows:
        groups.setdefault((row["system"], row["placement"], row["dtype"]), []).append(row)
    return {key: {**group[0], **{t: statistics.median(float(r[t]) for r in group) for t in TIMES}}
            for key, group in groups.items()}


def ratio(ours, peer):
    """How many times faster ballast is: in each time column, not only in the throughput."""
    row = {k: peer[k] for k in ("placement", "model", "batch", "prompt", "gen")}
    row["system"] = f"ballast/{peer['system']}"
    row["dtype"] = f"{ours['dtype']}/{peer['dtype']}"
    row["throughput_tok_s"] = ours["throughput_tok_s"] / peer["throughput_tok_s"]
    for t in ("prefill_s", "decode_s"):
        row[t] = peer[t] / ours[t] if ours[t] > 0 else ""
    return row


def report(rows, kind):
    """The line that says whether the aim is reached: against the fastest peer of the placement."""
    for placement in dict.fromkeys(r["placement"] for r in rows if r["placement"].startswith(kind)):
        worst = min((r for r in rows if r["placement"] == placement), key=lambda r: r["throughput_tok_s"])
        value = worst["throughput_tok_s"]
        log(f"{placement}: {value:.2f} times the fastest peer ({worst['system'].split('/')[1]}, {worst['dtype'].split('/')[1]}); "
            f"aim {AIMS[kind]}: {'reached' if value >= AIMS[kind] else 'not reached'}")


def ratios(args):
    with open(args.file, encoding="utf-8", newline="") as f:
        found = medians(list(csv.DictReader(f)))
    ours = {key[1]: row for key, row in found.items() if key[0] == "ballast"}
    rows = []
    for (system, placement, _), row in found.items():
        kind = placement.split("-")[0]
        if system != "ballast" and kind in ours:
            rows.append(ratio(ours[kind], row))
    write_rows(rows)
    for kind in AIMS:
        report(rows, kind)


# -- the table and the versions ----------------------------------------------------------------------------------------


def header(args):
    del args
    print(",".join(COLUMNS))


def versions(args):
    """Names what runs. Another version than the pinned one is another experiment, so it is said, not refused."""
    from importlib.metadata import PackageNotFoundError, version

    with open(args.requirements, encoding="utf-8") as f:
        pins = [line.split("==") for line in map(str.strip, f) if line and not line.startswith("#")]
    for name, pinned in pins:
        try:
            found = version(name)
        except PackageNotFoundError:
            fail(f"{name}: not installed beside {sys.executable}")
        # PyTorch's builds without CUDA call themselves 2.15.0+cpu
        log(f"{name} {found}" + ("" if found.split("+")[0] == pinned else f", not the pinned {pinned}"))


# -- command line ------------------------------------------------------------------------------------------------------


def add_common(parser):
    parser.add_argument("--placement", choices=["memory", "disk"], required=True)
    parser.add_argument("--model-dir", required=True)
    parser.add_argument("--model", required=True, help="its name in the rows")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--gen", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    p = commands.add_parser("measure")
    add_common(p)
    p.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], required=True)
    p.add_argument("--offload", choices=["original", "folder"], default="original")
    p.add_argument("--offload-dir")
    p.add_argument("--pages", nargs="+", choices=list(PLACEMENT_OF_PAGES), default=["warm"])
    p.add_argument("--seed", type=int, default=0)
    p = commands.add_parser("ballast")
    add_common(p)
    p.add_argument("--profile", required=True)
    p.add_argument("command", nargs="+")
    p = commands.add_parser("ratios")
    p.add_argument("file")
    commands.add_parser("header")
    p = commands.add_parser("versions")
    p.add_argument("requirements")
    args = parser.parse_args()
    if getattr(args, "placement", None) == "disk" and args.what == "measure" and not args.offload_dir:
        parser.error("--placement disk needs --offload-dir")
    return args


def main():
    args = parse()
    {"measure": measure, "ballast": ballast, "ratios": ratios, "header": header, "versions": versions}[args.what](args)


if __name__ == "__main__":
    main()
