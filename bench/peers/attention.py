# SPDX-License-Identifier: Apache-2.0
"""PyTorch's attention on the cases of bench/cuda/hopper_attention.cu: cuDNN and FlashAttention-2 behind SDPA, and FlexAttention compiled,
with a compiled block mask. One JSON line a direction, peer and case that the peer can do; cases by name, as arguments (all if there are
none), or line by line on standard input after `-`, each answered with a closing {}.

FLOPs are useful ones: live pairs, 4·d a pair and head forward, 10·d backward. A backward runs alone, gradients of the same call's output.
"""
import contextlib
import functools
import json
import sys

import torch
import torch._functorch.config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

PACKED = [4423, 6544, 2434, 7783, 2359, 4252, 8155, 858, 3588, 4297, 4616, 6669, 3197, 6361]


def causal(q, k):
    return q >= k


def full(q, k):
    return (q >= 0) & (k >= 0)


def window(width):
    return lambda q, k: (q >= k) & (q - k < width)


def window_or_first(width, first):
    return lambda q, k: (q >= k) & ((q - k < width) | (k < first))


def prefix(length):
    return lambda q, k: (q >= k) | (k < length)


# name: head width, heads, key/value heads, documents, mask of positions within a document, dropout
CASES = {
    "d128_causal_32k": (128, 16, 16, [32768], causal, 0),
    "d128_causal_8x2k": (128, 16, 16, [2048] * 8, causal, 0),
    "d128_causal_kv8_16k": (128, 32, 8, [16384], causal, 0),
    "d128_packed": (128, 16, 16, PACKED, causal, 0),
    "d128_causal_2x8k": (128, 16, 16, [8192] * 2, causal, 0),
    "d64_causal_16k": (64, 32, 32, [16384], causal, 0),
    "d64_causal_16x4k": (64, 12, 12, [4096] * 16, causal, 0),
    "d64_causal_64x1k": (64, 12, 12, [1024] * 64, causal, 0),
    "d128_full_32k": (128, 16, 16, [32768], full, 0),
    "d128_full_8x2k": (128, 16, 16, [2048] * 8, full, 0),
    "d128_window1024_64k": (128, 16, 16, [65536], window(1024), 0),
    "d128_window4096_64k": (128, 16, 16, [65536], window(4096), 0),
    "d128_packed_window_first": (128, 16, 16, PACKED, window_or_first(1024, 64), 0),
    "d64_window1024_128k": (64, 12, 12, [131072], window(1024), 0),
    "d128_prefix_32k": (128, 16, 16, [32768], prefix(4096), 0),
    "d128_causal_2x8k_dropout": (128, 16, 16, [8192] * 2, causal, 0.1),
    "d64_causal_16k_dropout": (64, 32, 32, [16384], causal, 0.1),
    "d256_causal_16k": (256, 8, 8, [16384], causal, 0),
}
torch._functorch.config.donated_buffer = False  # a backward is timed many times
SDPA = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def microseconds(work):
    """p10, median and p90 of 15 stretches of calls, each some milliseconds long, so that launching hides behind running."""

    def stretch(calls):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3 / calls

    stretch(2)
    calls = max(1, min(20, round(5000 / stretch(2))))
    times = sorted(stretch(calls) for _ in range(15))
    return times[1], times[7], times[13]


def live_pairs(documents, mask):
    count = 0
    for length in set(documents):
        q = torch.arange(length, device="cuda")[:, None]
        per_document = sum(int(mask(rows, torch.arange(length, device="cuda")[None, :]).sum()) for rows in q.split(1024))
        count += documents.count(length) * per_document
    return count


@functools.cache
def prepared(name):
    """Operands, pairs and what each peer calls; kept, so that taking turns costs nothing."""
    d, heads, key_heads, documents, mask, dropout = CASES[name]
    torch.manual_seed(0)
    alike = len(set(documents)) == 1
    batch, length = (len(documents), documents[0]) if alike else (1, sum(documents))
    q, k, v = (torch.randn((batch, h, length, d), device="cuda", dtype=torch.bfloat16, requires_grad=True) for h in (heads, key_heads, key_heads))
    grouped = heads != key_heads
    calls = {}
    if alike and mask in (causal, full):
        for peer in SDPA:
            calls[f"SDPA {peer}"] = functools.partial(scaled_dot_product_attention, q, k, v, is_causal=mask is causal, dropout_p=dropout, enable_gqa=grouped)
    else:  # where SDPA has no mask of its own; compiling takes some ten seconds a case
        counts = torch.tensor(documents, device="cuda")
        document = torch.repeat_interleave(torch.arange(len(documents), device="cuda"), counts)
        begin = torch.repeat_interleave(counts.cumsum(0) - counts, counts)

        def seen(b, h, i, j):
            return mask(i, j) if alike else (document[i] == document[j]) & mask(i - begin[i], j - begin[i])

        blocks = torch.compile(create_block_mask)(seen, None, None, length, length, device="cuda")
        calls["FlexAttention"] = functools.partial(torch.compile(flex_attention, dynamic=False), q, k, v, block_mask=blocks, enable_gqa=grouped)
    return (q, k, v), torch.randn((batch, heads, length, d), device="cuda", dtype=torch.bfloat16), live_pairs(documents, mask), calls


def run(name):
    if name not in CASES:
        return
    d, heads, key_heads, documents, _, dropout = CASES[name]
    operands, grad, pairs, calls = prepared(name)
    for peer, call in calls.items():
        backend = SDPA[peer.split()[-1]] if peer.startswith("SDPA") else None
        try:
            with sdpa_kernel(backend) if backend else contextlib.nullcontext():
                forward = microseconds(call)
                out = call()
                backward = microseconds(lambda: torch.autograd.grad(out, operands, grad, retain_graph=True))
        except RuntimeError as no:
            print(f"{peer}, {name}: {str(no).splitlines()[0]}", file=sys.stderr)
            continue
        for direction, times, flops in (("forward", forward, 4), ("backward", backward, 10)):
            print(json.dumps({"name": f"attention {direction}", "kernels": f"PyTorch {torch.__version__} {peer}", "case": name, "variant": "", "head_dim": d,
                              "heads": heads, "key_heads": key_heads, "documents": len(documents), "tokens": sum(documents),
                              "us": [round(t, 1) for t in times], "tflops": round(flops * d * heads * pairs / times[1] * 1e-6, 1)}), flush=True)
        del out


def main():
    if sys.argv[1:] == ["-"]:
        for line in sys.stdin:
            run(line.strip())
            print("{}", flush=True)
            if torch.cuda.mem_get_info()[0] < 40 << 30:
                prepared.cache_clear()
    else:
        for name in sys.argv[1:] or CASES:
            run(name)
            prepared.cache_clear()


if __name__ == "__main__":
    main()
