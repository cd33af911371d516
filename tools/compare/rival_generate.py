"""The opponents in drawing text: Hugging Face's generate with its cache, or nanoGPT's own generate, on a CPU.

    python tools/compare/rival_generate.py --model=<folder in Hugging Face's format> --rival=transformers --threads=2

Continues a prompt greedily by --tokens tokens, --rounds times, and prints one JSON line: the tokens, tokens/s of the
median round, the seconds from the start of this process to the first token, and the peak memory. For nanoGPT the weights
are copied into its model as its from_pretrained does. tools/compare/compare_generate.ts runs this beside our own side.
"""

import time

SCRIPT_START = time.time()  # before the slow imports

import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path

from rival_torch import at_least, peak_rss_mb, seconds_since_process_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder in Hugging Face's format")
    parser.add_argument("--rival", choices=["transformers", "nanogpt"], required=True)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--prompt", required=True, help="token numbers, separated by commas")
    parser.add_argument("--tokens", type=at_least(1), default=200)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--threads", type=at_least(1), default=2)
    args = parser.parse_args()

    import torch
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    ids = torch.tensor([[int(number) for number in args.prompt.split(",")]])
    model = GPT2LMHeadModel.from_pretrained(args.model).eval()

    if args.rival == "transformers":

        def generate(count: int) -> list[int]:
            # one more token than the end of text could cut short
            fixed = dict(do_sample=False, use_cache=True, eos_token_id=None, pad_token_id=0)
            mask = torch.ones_like(ids)
            return model.generate(ids, attention_mask=mask, max_new_tokens=count, **fixed)[0, ids.shape[1] :].tolist()
    else:
        sys.dont_write_bytecode = True  # leave the checkout as it was
        sys.path.insert(0, str(args.nanogpt))
        from model import GPT, GPTConfig

        c = model.config
        shape = dict(n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd, vocab_size=c.vocab_size)
        with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints its parameter count
            rival = GPT(GPTConfig(**shape, block_size=c.n_positions, bias=True, dropout=0.0)).eval()
        linear = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
        state = {
            name: tensor.t().contiguous() if name.endswith(linear) else tensor
            for name, tensor in model.state_dict().items()
            if not name.endswith((".attn.bias", ".attn.masked_bias"))
        }
        rival.load_state_dict(state)

        def generate(count: int) -> list[int]:
            return rival.generate(ids, count, top_k=1)[0, ids.shape[1] :].tolist()

    with torch.no_grad():
        generate(1)
        first_token_s = seconds_since_process_start()
        times = []
        for _ in range(args.rounds):
            start = time.perf_counter()
            tokens = generate(args.tokens)
            times.append(time.perf_counter() - start)
    result = dict(
        tokens=tokens,
        tokens_per_s=args.tokens / statistics.median(times),
        first_token_s=first_token_s,
        peak_rss_mb=peak_rss_mb(),
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
