#!/usr/bin/env python3
"""FlexGen itself, measured: its package's OptLM with one policy. Prints prefill_s,decode_s,peak_gpu_bytes,steps of one generation after a warm-up.

Calls what flexgen.flex_opt's own main does, less its tokenizer, which would be fetched: prompts are token ids. Weights are FlexGen's dummy ones,
all 1, as in its own benchmarks.
"""
import argparse
import os
import sys
import traceback


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="opt-6.7b, opt-13b, opt-30b")
    parser.add_argument("--percent", type=int, nargs=6, required=True, metavar="N", help="wg wc cg cc hg hc")
    parser.add_argument("--gpu-batch-size", type=int, required=True)
    parser.add_argument("--num-gpu-batches", type=int, required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--steps", type=int, default=0, help="run so many and project the rest, as FlexGen does itself for slow runs (0: all)")
    parser.add_argument("--compress-weight", action="store_true")
    parser.add_argument("--compress-cache", action="store_true")
    parser.add_argument("--cpu-cache-compute", action="store_true")
    parser.add_argument("--no-overlap", dest="overlap", action="store_false")
    parser.add_argument("--gpu-bytes", type=int, required=True, help="of the device's memory: the allocator refuses more")
    parser.add_argument("--offload-dir", required=True)
    return parser.parse_args()


def policy(args):
    from flexgen.compression import CompressionConfig
    from flexgen.flex_opt import Policy

    def groups(dim):
        return CompressionConfig(num_bits=4, group_size=64, group_dim=dim, symmetric=False)

    return Policy(args.gpu_batch_size, args.num_gpu_batches, *args.percent, overlap=args.overlap, sep_layer=True, pin_weight=True,
                  cpu_cache_compute=args.cpu_cache_compute, attn_sparsity=1.0, compress_weight=args.compress_weight,
                  comp_weight_config=groups(0), compress_cache=args.compress_cache, comp_cache_config=groups(2))


def generate(args):
    """Seconds of prefill and decode of one generation, the most device memory that was taken, and how many steps ran."""
    import numpy as np
    import torch
    from flexgen.flex_opt import DUMMY_WEIGHT, OptLM, get_opt_config
    from flexgen.timer import timers
    from flexgen.utils import ExecutionEnv, project_decode_latency

    torch.cuda.set_per_process_memory_fraction(min(1.0, args.gpu_bytes / torch.cuda.get_device_properties(0).total_memory))
    env = ExecutionEnv.create(args.offload_dir)
    prompts = np.random.default_rng(0).integers(4, 50000, (args.gpu_batch_size * args.num_gpu_batches, args.prompt))
    try:  # its copy threads would keep the process alive after a failure
        model = OptLM(get_opt_config(args.model), env, DUMMY_WEIGHT, policy(args))
        model.generate(prompts[:, :32].tolist(), max_new_tokens=1)
        timers("generate").reset()
        cut = args.steps if 4 <= args.steps < args.gen else None
        model.generate(prompts.tolist(), max_new_tokens=args.gen, cut_gen_len=cut)
        costs = timers("generate").costs
        decode = project_decode_latency(costs, args.prompt, args.gen) if cut else sum(costs[1:])
        return costs[0], decode, torch.cuda.max_memory_allocated(), len(costs)
    finally:
        env.close_copy_threads()


def main():
    args = parse()
    try:
        prefill, decode, peak, steps = generate(args)
    except Exception as e:  # the last line says why; a half-made OptLM complains of itself when it goes
        traceback.print_exc()
        print(f"flexgen_peer: {type(e).__name__}: {' '.join(str(e).split())}", file=sys.stderr, flush=True)
        os._exit(3)
    print(f"{prefill:.6f},{decode:.6f},{peak},{steps}")


if __name__ == "__main__":
    main()
