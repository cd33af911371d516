# tiktoken on the documents of tools/compare/compare_tiktoken.ts, which starts this. Reads one JSON object from stdin: ranks (the
# bytes of each token, base64), file (documents as a JSON array of texts) and threads. Prints one JSON object a line of
# stdin that follows: tokens, seconds with one thread and with all, and a checksum of the tokens.

import array
import base64
import hashlib
import json
import sys
import time

import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

task = json.loads(sys.stdin.readline())
ranks = {base64.b64decode(pair): rank for rank, pair in enumerate(task["ranks"])}
encoding = tiktoken.Encoding(
    "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
)
with open(task["file"], encoding="utf-8") as file:
    documents = json.load(file)

for _ in sys.stdin:
    start = time.perf_counter()
    for document in documents:
        encoding.encode_ordinary(document)
    one = time.perf_counter() - start
    start = time.perf_counter()
    encoded = encoding.encode_ordinary_batch(documents, num_threads=task["threads"])
    all_threads = time.perf_counter() - start
    checksum = hashlib.sha256()
    for tokens in encoded:
        numbers = array.array("H", tokens)
        if sys.byteorder == "big":
            numbers.byteswap()
        checksum.update(numbers.tobytes())
    answer = {"tokens": sum(map(len, encoded)), "one": one, "all": all_threads, "sha256": checksum.hexdigest()}
    print(json.dumps({**answer, "version": tiktoken.__version__}), flush=True)
