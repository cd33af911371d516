"""PyTorch's side of tools/compare/compare_losses.ts: trains nanoGPT's own model on given weights and batches, keeps each loss.

    python tools/compare/losses_torch.py --nanogpt=<a checkout of karpathy/nanoGPT> --folder=<what compare_losses.ts wrote> \
        --dtype=float32 --threads=2 --losses=<the file to write>

The folder holds weights.safetensors (names and [in, out] orientation of Hugging Face's GPT-2), batches.safetensors
(x and y, int32 [steps, B, T]) and run.json (the model's shape, the optimizer's settings, the learning rate of each
step). The losses file is a JSON list; a loss in it is the exact number that PyTorch computed. Model and optimizer come
from the checkout. Left out: dropout, evaluation, accumulation, torch.compile, GPUs.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--folder", type=Path, required=True, help="weights, batches and run.json")
    parser.add_argument("--losses", type=Path, required=True, help="the file to write")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def read_safetensors(path: Path) -> dict:
    """8 bytes of header length, the header, the numbers; the package safetensors isn't worth a dependency."""
    import numpy as np

    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = {"F32": "<f4", "I32": "<i4"}[entry["dtype"]]
        tensors[name] = np.frombuffer(raw[start + begin : start + end], dtype).reshape(entry["shape"])
    return tensors


def load_weights(model, tensors: dict) -> None:
    """Every weight of the model from the tensor of its name; PyTorch keeps a Linear's weight as [out, in]."""
    import torch

    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    weights = dict(model.named_parameters())  # the output layer is the token embedding, listed once under that name
    if weights.keys() != tensors.keys():
        sys.exit(f"error: only one side has the weights {sorted(weights.keys() ^ tensors.keys())}")
    with torch.no_grad():
        for name, weight in weights.items():
            tensor = torch.tensor(tensors[name])
            if name in linear:
                tensor = tensor.T
            if tensor.shape != weight.shape:
                sys.exit(f"error: {name} is {list(tensor.shape)} in the file, {list(weight.shape)} in nanoGPT")
            weight.copy_(tensor)


def main() -> None:
    args = settings()
    try:
        import torch
    except ImportError:
        sys.exit(f"error: no PyTorch in {sys.executable}; run: {sys.executable} -m pip install torch numpy")
    sys.dont_write_bytecode = True  # leave the checkout as it was
    sys.path.insert(0, str(args.nanogpt))
    from model import GPT, GPTConfig

    run = json.loads((args.folder / "run.json").read_text())
    torch.set_num_threads(args.threads)
    torch.set_default_dtype(getattr(torch, args.dtype))
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints its parameter counts
        model = GPT(GPTConfig(**run["model"], dropout=0.0))
        load_weights(model, read_safetensors(args.folder / "weights.safetensors"))
        betas = (run["beta1"], run["beta2"])
        optimizer = model.configure_optimizers(run["weight_decay"], run["learning_rates"][0], betas, "cpu")

    batches = read_safetensors(args.folder / "batches.safetensors")
    losses = []
    for x, y, learning_rate in zip(batches["x"], batches["y"], run["learning_rates"], strict=True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        _, loss = model(torch.tensor(x, dtype=torch.long), torch.tensor(y, dtype=torch.long))
        loss.backward()
        if run["grad_clip"] > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), run["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    args.losses.write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
