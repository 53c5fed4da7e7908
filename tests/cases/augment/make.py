#!/usr/bin/python3
"""Writes the cases beside this file: small images, augmented by torchvision's functions (0.14 made them) with the random numbers that
server/train/batch.h promises; cutout as in DeVries and Taylor's published code. Needs torch, torchvision."""
import json
from pathlib import Path

import torch
import torchvision
from torchvision.transforms import functional as f

CROP, FLIP, ROTATION, COLOR, CUTOUT = 3, 4, 9, 10, 11  # common/rng.h
SEED, EPOCH, SAMPLES = 77, 5, [2, 0, 3, 1]
MASK = 0xFFFFFFFF
CASES = {
    "crop": {"crop": 2, "flip": True},
    "rotation": {"rotation": 30},
    "brightness": {"brightness": 0.9},
    "contrast": {"contrast": 0.8},
    "cutout": {"cutout": 4},
    "all": {"crop": 3, "flip": True, "rotation": 45, "brightness": 0.5, "contrast": 0.5, "cutout": 2},
}


def philox(seed, purpose, a, b, c=0):
    """Philox4x32-10 of Salmon et al. 2011."""
    x, k = [a, b, c, purpose], [seed & MASK, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [q >> 32 ^ x[1] ^ k[0], q & MASK, p >> 32 ^ x[3] ^ k[1], p & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return x


def below(word, n):
    return word * n >> 32


def between(word, limit):
    return (2 * (word >> 8) / 2**24 - 1) * limit


def augmented(image, options, sample):
    """image: fractions [C,H,W]"""
    height, width = image.shape[1:]
    words = {purpose: philox(SEED, purpose, EPOCH, sample) for purpose in (CROP, FLIP, ROTATION, COLOR, CUTOUT)}
    if crop := options.get("crop"):
        top, left = (below(word, 2 * crop + 1) for word in words[CROP][:2])
        image = f.crop(f.pad(image, [crop]), top, left, height, width)
    if options.get("flip") and words[FLIP][0] >= 2**31:
        image = f.hflip(image)
    if limit := options.get("rotation"):
        image = f.rotate(image, between(words[ROTATION][0], limit), f.InterpolationMode.BILINEAR)
    if limit := options.get("brightness"):
        image = f.adjust_brightness(image, 1 + between(words[COLOR][0], limit))
    if limit := options.get("contrast"):
        image = f.adjust_contrast(image, 1 + between(words[COLOR][1], limit))
    if length := options.get("cutout"):
        y, x = below(words[CUTOUT][0], height), below(words[CUTOUT][1], width)
        image = image.clone()
        image[:, max(y - length // 2, 0) : max(y + length // 2, 0), max(x - length // 2, 0) : max(x + length // 2, 0)] = 0
    return image


def case(name, shape, options):
    generator = torch.Generator().manual_seed(len(name))
    pixels = torch.randint(0, 256, (4, *shape), generator=generator, dtype=torch.uint8)
    fractions = pixels.double() / 255
    mean, deviation = fractions.mean((0, 2, 3)), fractions.std((0, 2, 3), unbiased=False)
    images = [(augmented(fractions[s], options, s) - mean[:, None, None]) / deviation[:, None, None] for s in SAMPLES]
    return {"torchvision": torchvision.__version__, "shape": shape, "pixels": pixels.flatten().tolist(), "augment": options, "seed": SEED,
            "epoch": EPOCH, "samples": SAMPLES, "images": [float(f"{v:.7g}") for v in torch.stack(images).flatten().tolist()]}


def main():
    for name, options in CASES.items():
        for kind, shape in {"color": (3, 8, 7), "grey": (1, 5, 6)}.items():
            (Path(__file__).parent / f"{name}-{kind}.json").write_text(json.dumps(case(name, shape, options)) + "\n")


main()
