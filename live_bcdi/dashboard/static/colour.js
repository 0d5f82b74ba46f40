// Colour maps as tables of 256. Sequential ones are perceptually uniform; the cyclic one closes on itself.

// matplotlib's viridis and inferno (CC0) at 17 equidistant points; between them, straight lines.
const VIRIDIS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26818e 21908c 1f9f88 28ae80 3ebc74 5dc963 82d34c abdc32 d5e21a fde725";
const INFERNO = "000004 0b0724 210c4a 3c0965 57106d 70196e 89226a a32b61 bb3755 d14644 e35932 f1711e f98d0a fcab0f f9ca32 f2e865 fcffa4";

/** `table` holds one RGBA pixel an entry, as ImageData wants it in a Uint32Array; `css(t)` is a colour, t in 0..1. */
class ColourMap {
  constructor(rgb) {
    const bytes = new Uint8ClampedArray(256 * 4);
    for (let index = 0; index < 256; index++) bytes.set([...rgb(index / 255), 255], 4 * index);
    this._bytes = bytes;
    this.table = new Uint32Array(bytes.buffer);
  }

  css(t) {
    const at = 4 * Math.max(0, Math.min(255, Math.round(255 * t)));
    return `rgb(${this._bytes[at]} ${this._bytes[at + 1]} ${this._bytes[at + 2]})`;
  }
}

function between(points) {
  const rgb = points.split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return (t) => {
    const at = Math.min(t * (rgb.length - 1), rgb.length - 1 - 1e-9);
    const [low, high] = [rgb[Math.floor(at)], rgb[Math.floor(at) + 1]];
    return low.map((value, channel) => value + (at % 1) * (high[channel] - value));
  };
}

// A ring in OKLab: blue to amber with the sine of the angle, lightness and green to magenta
// with its cosine. Steps look alike all around, and who cannot tell red from green still sees sine and cosine.
function ring(t) {
  const angle = 2 * Math.PI * (t - 0.5);
  return oklab(0.7 + 0.14 * Math.cos(angle), -0.08 * Math.cos(angle), 0.14 * Math.sin(angle));
}

/** OKLab (B. Ottosson, 2020) to sRGB, 0..255. */
function oklab(lightness, a, b) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((x) => 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * Math.max(x, 0) ** (1 / 2.4) - 0.055));
}

// Orange above zero, blue below, nearly white at it (OKLab): lightness falls the same way to both ends, and the ends
// differ in blue to yellow, which every common kind of colour vision sees.
function aboutZero(t) {
  const away = 2 * t - 1;
  const [a, b] = away > 0 ? [0.105, 0.105] : [0.03, 0.15];
  return oklab(0.93 - 0.43 * Math.abs(away), a * away, b * away);
}

export const viridis = new ColourMap(between(VIRIDIS));
export const inferno = new ColourMap(between(INFERNO));
/** -pi at 0, 0 at 0.5, pi at 1. */
export const cyclic = new ColourMap(ring);
/** Minus the limit at 0, zero at 0.5, the limit at 1. */
export const diverging = new ColourMap(aboutZero);
