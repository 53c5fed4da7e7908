// onnx_run.mjs DIR: runs each DIR/NAME.onnx in onnxruntime-node on the images of NAME.bin (NAME.json has their shape) and writes
// NAME.out: logits, then softmax, as f32. Prints what could not be run; exit status 1 then.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const ort = createRequire(new URL("../package.json", import.meta.url))("onnxruntime-node");
const folder = process.argv[2];

async function run(name) {
    const at = (ending) => path.join(folder, `${name}.${ending}`);
    const { shape } = JSON.parse(fs.readFileSync(at("json"), "utf8"));
    const bytes = fs.readFileSync(at("bin"));
    const count = shape.reduce((a, b) => a * b, 1);
    const images = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 4 * count));
    const session = await ort.InferenceSession.create(at("onnx"), { intraOpNumThreads: 1, logSeverityLevel: 3 });
    const { logits, softmax } = await session.run({ image: new ort.Tensor("float32", images, shape) });
    fs.writeFileSync(at("out"), Buffer.concat([logits, softmax].map((t) => Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength))));
    await session.release();
}

for (const file of fs.readdirSync(folder).filter((f) => f.endsWith(".onnx")).sort()) {
    try {
        await run(file.slice(0, -5));
    } catch (error) {
        console.error(`${file}: ${error.message}`);
        process.exitCode = 1;
    }
}
