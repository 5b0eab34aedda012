# SPDX-License-Identifier: Apache-2.0
"""PyTorch's training step of the models that bench/cuda/step_*.cu measure: the whole model compiled, its loss with it, cuDNN
attention, fused AdamW, bf16 products with float masters, clipping by global norm. With --blocks only the blocks are compiled, and
the loss makes its logits in memory, as scripts often have it. Prints a line of JSON per case.

    python3 bench/peers/step.py [--blocks] [a b gpt2]

Needs PyTorch 2.11 or later with CUDA.
"""
import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

MODELS = {
    "a": dict(layers=12, width=768, heads=12, hidden=2048, vocabulary=50304, kind="llama"),
    "b": dict(layers=16, width=2048, heads=16, hidden=5504, vocabulary=32000, kind="llama"),
    "gpt2": dict(layers=12, width=768, heads=12, hidden=3072, vocabulary=50304, kind="gpt2"),
}
CASES = [("a", 16, 4096), ("a", 2, 32768), ("b", 4, 4096), ("gpt2", 64, 1024)]


def rotate(x, cosine, sine):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


class Block(nn.Module):
    def __init__(self, m):
        super().__init__()
        bias = m["kind"] == "gpt2"
        norm = nn.LayerNorm if bias else nn.RMSNorm
        self.m, self.heads = m, m["heads"]
        self.norm1, self.norm2 = norm(m["width"], eps=1e-5), norm(m["width"], eps=1e-5)
        self.qkv = nn.Linear(m["width"], 3 * m["width"], bias=bias)
        self.out = nn.Linear(m["width"], m["width"], bias=bias)
        self.up = nn.Linear(m["width"], m["hidden"] * (1 if bias else 2), bias=bias)
        self.down = nn.Linear(m["hidden"], m["width"], bias=bias)

    def forward(self, x, cosine, sine):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.m["kind"] == "llama":
            q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        h = self.up(self.norm2(x))
        if self.m["kind"] == "llama":
            gate, up = h.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(h, approximate="tanh"))


class Model(nn.Module):
    def __init__(self, m, length):
        super().__init__()
        self.m = m
        self.embed = nn.Embedding(m["vocabulary"], m["width"])
        self.positions = nn.Embedding(length, m["width"]) if m["kind"] == "gpt2" else None
        self.blocks = nn.ModuleList(Block(m) for _ in range(m["layers"]))
        self.norm = (nn.LayerNorm if m["kind"] == "gpt2" else nn.RMSNorm)(m["width"], eps=1e-5)
        half = m["width"] // m["heads"] // 2
        angles = torch.outer(torch.arange(length).double(), 10000.0 ** (-torch.arange(half).double() / half))
        self.register_buffer("cosine", angles.cos().bfloat16())
        self.register_buffer("sine", angles.sin().bfloat16())

    def forward(self, ids, targets):
        x = self.embed(ids)
        if self.positions is not None:
            x = x + self.positions.weight
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        x = self.norm(x)
        return F.cross_entropy((x @ self.embed.weight.t().to(x.dtype)).flatten(0, 1), targets.flatten(), ignore_index=-1)


def measure(name, batch, length, steps, blocks):
    m = MODELS[name]
    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    model = Model(m, length).cuda()
    for p in model.parameters():
        nn.init.normal_(p, std=0.02)
    for part in model.blocks if blocks else [model]:
        part.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(m["vocabulary"], (2, batch, length), device="cuda")
    targets = torch.roll(ids, -1, 2)
    targets[..., -1] = -1  # as in bench/cuda/step.cuh, a document's last token has none

    def step(i):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(ids[i % 2], targets[i % 2])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    began = time.perf_counter()
    step(0).item()
    first = time.perf_counter() - began
    for i in range(3):
        step(i)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    marks[0].record()
    for i in range(steps):
        step(i)
        marks[i + 1].record()
    torch.cuda.synchronize()
    took = sorted(a.elapsed_time(b) for a, b in zip(marks, marks[1:]))
    median = took[len(took) // 2]
    print(json.dumps({"name": f"{name} {batch}x{length}", "peer": f"PyTorch {torch.__version__}{', compiled blocks' if blocks else ''}", "ms": round(median, 3),
                      "ms_p10": round(took[len(took) // 10], 3), "ms_p90": round(took[len(took) * 9 // 10], 3),
                      "tokens_per_second": round(1e3 * batch * length / median),
                      "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3), "first_step_s": round(first, 3)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--blocks", action="store_true", help="compile the blocks alone")
    chosen = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    for name, batch, length in CASES:
        if not chosen.models or name in chosen.models:
            measure(name, batch, length, chosen.steps, chosen.blocks)
            torch._dynamo.reset()
            torch.cuda.empty_cache()
