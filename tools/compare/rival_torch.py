"""The opponent: times one training step of nanoGPT's own model with PyTorch on a CPU and prints one JSON line.

    python tools/compare/rival_torch.py --nanogpt=<a checkout of karpathy/nanoGPT> --n_layer=4 --threads=2 --compile=1

A step is what nanoGPT's train.py does between two batches, in its order: forward, backward, clip, AdamW, gradients
dropped; the model and its optimizer come from the checkout. tools/compare/compare_torch.ts runs this beside bench.ts.
Left out: loading data (tokens are random, drawn before the clock starts), evaluation, checkpoints, accumulation, GPUs.

first_step_s   from the start of this process to the end of the first step: imports, building, compiling
peak_rss_mb    of this process alone; torch.compile's workers are not in it
"""

import time

SCRIPT_START = time.time()  # before the slow imports: see seconds_since_process_start

import argparse
import contextlib
import json
import os
import statistics
import sys
from pathlib import Path


def switch(text: str) -> bool:
    """A flag that is 0 or 1, or false or true as bench.ts writes it."""
    try:
        return {"0": False, "1": True, "false": False, "true": True}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"wants 0, 1, false or true, got {text!r}") from None


def at_least(low: int):
    def whole(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"wants {low} or more, got {value}")
        return value

    return whole


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of karpathy/nanoGPT")
    # nanoGPT's CPU recipe
    for name, default in dict(n_layer=4, n_head=4, n_embd=128, block_size=64, batch_size=12, vocab_size=65).items():
        parser.add_argument(f"--{name}", type=at_least(1), default=default)
    parser.add_argument("--bias", type=switch, default=False)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--grad_clip", type=float, default=1.0, help="0: no clipping")
    parser.add_argument("--threads", type=at_least(0), default=0, help="0: as many as PyTorch picks")
    parser.add_argument("--compile", type=switch, default=False)
    parser.add_argument("--autocast", choices=["none", "bfloat16"], default="none")
    parser.add_argument("--steps", type=at_least(1), default=30)
    parser.add_argument("--warmup", type=at_least(0), default=5, help="first steps, not counted")
    args = parser.parse_args()
    if not (args.nanogpt / "model.py").is_file():
        sys.exit(f"error: no model.py in {args.nanogpt}; --nanogpt wants a checkout of karpathy/nanoGPT")
    if args.n_embd % args.n_head:
        sys.exit(f"error: n_embd {args.n_embd} is no multiple of n_head {args.n_head}")
    return args


def seconds_since_process_start() -> float:
    """Linux tells when a process began; elsewhere the interpreter's own start (some 20 ms) is missing."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # the name may hold spaces
        began = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), counted from boot
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError):
        return time.time() - SCRIPT_START


def peak_rss_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2 ** (20 if sys.platform == "darwin" else 10), 1)  # macOS counts bytes, Linux KiB


def main() -> None:
    args = settings()
    try:
        import torch
    except ImportError:
        sys.exit(f"error: no PyTorch in {sys.executable}; run: {sys.executable} -m pip install torch numpy")
    sys.dont_write_bytecode = True  # leave the checkout as it was
    sys.path.insert(0, str(args.nanogpt))
    from model import GPT, GPTConfig

    torch.manual_seed(1337)
    if args.threads:
        torch.set_num_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints its parameter counts
        shape_keys = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "bias", "dropout")
        model = GPT(GPTConfig(**{key: getattr(args, key) for key in shape_keys}))
        optimizer = model.configure_optimizers(0.1, args.learning_rate, (0.9, 0.99), "cpu")
    forward = torch.compile(model) if args.compile else model
    precision = torch.autocast("cpu", torch.bfloat16) if args.autocast == "bfloat16" else contextlib.nullcontext()

    total = args.warmup + args.steps
    text = torch.randint(args.vocab_size, (total, args.batch_size, args.block_size + 1))
    inputs, targets = text[..., :-1].contiguous(), text[..., 1:].contiguous()

    def step(index: int) -> float:
        with precision:
            _, loss = forward(inputs[index], targets[index])
        loss.backward()
        if args.grad_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    times, loss, first_step_s = [], float("nan"), float("nan")
    for index in range(total):
        start = time.perf_counter()
        loss = step(index)
        times.append(time.perf_counter() - start)
        if index == 0:
            first_step_s = seconds_since_process_start()

    times = times[args.warmup :]
    median = statistics.median(times)
    result = dict(
        ms_median=round(median * 1e3, 3),
        ms_min=round(min(times) * 1e3, 3),
        tokens_per_s=round(args.batch_size * args.block_size / median),
        peak_rss_mb=peak_rss_mb(),
        first_step_s=round(first_step_s, 3),
        loss=round(loss, 4),
        params=sum(p.numel() for p in model.parameters()),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        **{key: value for key, value in vars(args).items() if key not in ("nanogpt", "threads")},
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
