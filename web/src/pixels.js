// From numbers to the bytes of a picture (RGBA, one pixel after the other). No DOM.

// An image as the data set has it: [C][H][W] of 0 to 255, with one channel (grey) or three (red, green, blue).
export function imageBytes(channels) {
  const [height, width] = [channels[0].length, channels[0][0].length];
  const bytes = new Uint8ClampedArray(4 * height * width);
  const plane = (i) => channels[channels.length === 3 ? i : 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      for (let i = 0; i < 3; i += 1) bytes[at + i] = plane(i)[y][x];
      bytes[at + 3] = 255;
    }
  }
  return { width, height, bytes };
}

const LOW = [33, 82, 156]; // blue: negative
const MIDDLE = [246, 246, 244];
const HIGH = [176, 64, 12]; // orange: positive

// Zero is pale; the largest magnitude among all values of the layer is full colour, so that maps of one layer can be compared.
export function signedColor(value, limit) {
  const share = limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0;
  const end = value < 0 ? LOW : HIGH;
  return MIDDLE.map((middle, i) => Math.round(middle + (end[i] - middle) * share));
}

// One channel of a feature map or filter, [H][W].
export function mapBytes(rows, limit) {
  const [height, width] = [rows.length, rows[0].length];
  const bytes = new Uint8ClampedArray(4 * height * width);
  rows.forEach((row, y) => row.forEach((value, x) => bytes.set([...signedColor(value, limit), 255], 4 * (y * width + x))));
  return { width, height, bytes };
}
