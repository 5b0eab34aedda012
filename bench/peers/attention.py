# SPDX-License-Identifier: Apache-2.0
"""PyTorch's attention on the cases of bench/cuda/attention.cu, one JSON line a case: FlashAttention-2 and cuDNN behind SDPA.

FLOPs count live pairs: 4·d a pair and head forward, 10·d backward.
"""
import json
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

# head width, heads, key/value heads, documents, length, causal
CASES = [
    (128, 16, 16, 2, 8192, True),
    (128, 16, 16, 1, 32768, True),
    (128, 16, 16, 8, 2048, True),
    (64, 32, 32, 1, 16384, True),
    (64, 32, 32, 4, 4096, True),
    (128, 16, 16, 1, 32768, False),
    (128, 16, 16, 8, 2048, False),
    (64, 32, 32, 1, 16384, False),
]
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def microseconds(work, before=lambda: None):
    times = []
    for i in range(13):
        before()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        if i >= 3:
            times.append(begin.elapsed_time(end) * 1e3)
    times.sort()
    return times[1], times[len(times) // 2], times[-2]


def main():
    names = sys.argv[1:] or list(BACKENDS)
    torch.manual_seed(0)
    for d, heads, key_heads, documents, length, causal in CASES:
        pairs = documents * (length * (length + 1) / 2 if causal else length * length)
        flops = 4 * d * heads * pairs
        shape = lambda h: (documents, h, length, d)
        q, k, v = (torch.randn(shape(h), device="cuda", dtype=torch.bfloat16, requires_grad=True) for h in (heads, key_heads, key_heads))
        grad = torch.randn(shape(heads), device="cuda", dtype=torch.bfloat16)
        for name in names:
            with sdpa_kernel(BACKENDS[name]):
                forward = microseconds(lambda: scaled_dot_product_attention(q, k, v, is_causal=causal))
                out = scaled_dot_product_attention(q, k, v, is_causal=causal)
                backward = microseconds(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True))
            for direction, time, work in (("forward", forward, flops), ("backward", backward, 2.5 * flops)):
                print(json.dumps({"name": f"attention {direction}", "peer": f"PyTorch SDPA {name}", "pattern": "causal" if causal else "full",
                                  "head_dim": d, "heads": heads, "key_heads": key_heads, "documents": documents, "tokens": documents * length,
                                  "us": [round(t, 1) for t in time], "tflops": round(work / time[1] * 1e-6, 1)}), flush=True)


if __name__ == "__main__":
    main()
