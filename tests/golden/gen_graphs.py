#!/usr/bin/python3
"""Makes tests/golden/graphs.json: what PyTorch gives for one training step of every op case and every random graph of tests/ops.

    make tests && tests/golden/gen_graphs.py

The graphs are those that `test_graphs dump` writes; weights, images and labels are those of formula.py. PyTorch runs in double
precision, layer by layer as its functions are documented; gradients are autograd's. Of each tensor its sum with weights of a formula is
stored, of gradients their length too; of running statistics the values behind the step.
"""
import json
import os
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F

import formula

HERE = Path(__file__).parent
PROGRAM = HERE.parent.parent / os.environ.get("RESIDUUM_BUILD", "build/release") / "tests/golden/test_graphs"
WEIGHTS_SEED = 7000

ACTIVATIONS = {"relu": F.relu, "leaky_relu": F.leaky_relu, "elu": F.elu, "gelu": F.gelu, "silu": F.silu, "sigmoid": torch.sigmoid,
               "tanh": torch.tanh, "identity": lambda x: x}


class Net:
    """A graph with its parameters, by name, in the order of the graph."""

    def __init__(self, graph):
        self.nodes = graph["nodes"]
        self.parameters, self.statistics = {}, {}
        shapes = {node["name"]: node["shape"] for node in self.nodes}
        for node in self.nodes:
            self.add_parameters(node, shapes[node["inputs"][0]] if node["inputs"] else None)

    def add(self, name, *shape):
        self.parameters[name] = formula.initial(name, shape).requires_grad_()

    def add_parameters(self, node, source):
        name, op, given, channels = node["name"], node["op"], node["attributes"], node["shape"][0]
        if op == "conv":
            self.add(f"{name}.weight", channels, source[0] // given["groups"], *given["kernel"])
        elif op == "linear":
            self.add(f"{name}.weight", channels, source[0])
        elif op in ("batch_norm", "group_norm"):
            self.add(f"{name}.weight", channels)
        if op in ("batch_norm", "group_norm") or given.get("bias"):
            self.add(f"{name}.bias", channels)
        if op == "batch_norm":
            for statistic in ("running_mean", "running_var"):
                self.statistics[f"{name}.{statistic}"] = formula.initial(f"{name}.{statistic}", (channels,))

    def apply(self, node, inputs, training):
        name, op, given, x = node["name"], node["op"], node["attributes"], inputs[0]
        weight, bias = self.parameters.get(f"{name}.weight"), self.parameters.get(f"{name}.bias")
        if op == "conv":
            return F.conv2d(x, weight, bias, given["stride"], given["padding"], given["dilation"], given["groups"])
        if op == "batch_norm":
            mean, var = self.statistics[f"{name}.running_mean"], self.statistics[f"{name}.running_var"]
            return F.batch_norm(x, mean, var, weight, bias, training, given["momentum"], given["epsilon"])
        if op == "group_norm":
            return F.group_norm(x, given["groups"], weight, bias, given["epsilon"])
        if op == "activation":
            return ACTIVATIONS[given["kind"]](x)
        if op == "add":
            return sum(inputs)
        if op == "concat":
            return torch.cat(inputs, 1)
        if op == "max_pool":
            return F.max_pool2d(x, given["kernel"], given["stride"], given["padding"])
        if op == "avg_pool":
            return F.avg_pool2d(x, given["kernel"], given["stride"], given["padding"], count_include_pad=False)
        if op == "global_avg_pool":
            return F.adaptive_avg_pool2d(x, 1)
        if op == "shortcut":
            rows, columns = given["stride"]
            return F.pad(x[:, :, ::rows, ::columns], (0, 0, 0, 0, 0, given["out_channels"] - x.shape[1]))
        if op == "flatten":
            return x.flatten(1)[:, :, None, None]
        if op == "linear":
            return F.linear(x.flatten(1), weight, bias)[:, :, None, None]
        assert op == "softmax_cross_entropy", op
        return torch.softmax(x, 1)

    def forward(self, images, training):
        """The outputs of all nodes, by name, and the logits."""
        outputs = {self.nodes[0]["name"]: images}
        for node in self.nodes[1:]:
            outputs[node["name"]] = self.apply(node, [outputs[source] for source in node["inputs"]], training)
            assert list(outputs[node["name"]].shape[1:]) == node["shape"], node
        return outputs, outputs[self.nodes[-1]["inputs"][0]].flatten(1)


def short(value):
    return float(f"{float(value):.9g}")


def dot(tensor):
    weights = torch.from_numpy(formula.centred(WEIGHTS_SEED, tensor.numel(), 1.0)).double()
    return short((tensor.detach().flatten() * weights).sum())


def pair(tensor):
    return [short(tensor.detach().norm()), dot(tensor)]


def in_order(net, node):
    """The node's parameters in the order of the graph's table."""
    for part in ("weight", "bias", "running_mean", "running_var"):
        name = f"{node['name']}.{part}"
        if name in net.parameters:
            yield pair(net.parameters[name].grad)
        elif name in net.statistics:
            yield pair(net.statistics[name])


def stored(document):
    net, batch, classes = Net(document["graph"]), document["batch"], document["classes"]
    images = formula.images(0, batch, net.nodes[0]["shape"])
    outputs, logits = net.forward(images, True)
    target = formula.targets(0, batch, classes, document["mixup"])
    loss = F.cross_entropy(logits, target, label_smoothing=document["smoothing"])
    loss.backward()
    row = {"loss": short(loss), "outputs": [dot(outputs[node["name"]]) for node in net.nodes[1:]],
           "parameters": [row for node in net.nodes for row in in_order(net, node)]}
    logits = net.forward(images, False)[1]
    return {**row, "evaluation": short(F.cross_entropy(logits, formula.labels(0, batch, classes)))}


def main():
    torch.set_num_threads(1)
    documents = json.loads(subprocess.run([PROGRAM, "dump"], check=True, capture_output=True, cwd=HERE.parent.parent).stdout)
    rows = {document["graph"]["title"]: stored(document) for document in documents}
    assert len(rows) == len(documents)
    lines = [f"{json.dumps(title)}: {json.dumps(row, separators=(',', ':'))}" for title, row in rows.items()]
    head = json.dumps(f"gen_graphs.py with PyTorch {torch.__version__}")
    (HERE / "graphs.json").write_text(f'{{"made_by": {head},\n"graphs": {{\n' + ",\n".join(lines) + "\n}}\n")
    print(len(lines), "graphs")


if __name__ == "__main__":
    main()
