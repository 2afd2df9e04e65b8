// What every part of the page draws with.
'use strict';

const data = JSON.parse(document.getElementById('data').textContent);
const find = (id) => document.getElementById(id);
const dark = matchMedia('(prefers-color-scheme: dark)');
const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const redraws = [];

// Oklch in linear sRGB, where 0 to 1 can be shown.
function linear(lightness, chroma, hue) {
  const a = chroma * Math.cos(hue * Math.PI / 180);
  const b = chroma * Math.sin(hue * Math.PI / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s];
}
function rgb(lightness, chroma, hue) {
  let parts = linear(lightness, chroma, hue);
  while (chroma > 0.005 && parts.some((x) => x < 0 || x > 1)) {
    chroma *= 0.99;
    parts = linear(lightness, chroma, hue);
  }
  return parts.map((x) => {
    const y = clamp(x, 0, 1);
    return Math.round(255 * (y <= 0.0031308 ? 12.92 * y : 1.055 * y ** (1 / 2.4) - 0.055));
  });
}
// A ramp of one direction in lightness, so that it reads without colour: light to dark on paper,
// dark to light on black.
let ramp = [];
function makeRamp() {
  ramp = [];
  for (let i = 0; i < 256; ++i) {
    const t = i / 255;
    const [lightness, hue] = dark.matches ? [0.25 + 0.69 * t, 290 - 190 * t] : [0.985 - 0.70 * t, 100 + 190 * t];
    const chroma = 0.02 + 0.078 * Math.sin(Math.PI * clamp(0.12 + 0.7 * t, 0, 1));
    ramp.push({css: `rgb(${rgb(lightness, chroma, hue).join(' ')})`,
      ink: lightness > 0.62 ? '#101418' : '#f6f8fa'});
  }
}
const tone = (share) => ramp[Math.round(255 * clamp(share, 0, 1))];

// A canvas of so many CSS pixels, sharp on any screen.
function surface(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  pen.font = '11.5px system-ui, sans-serif';
  return pen;
}
const every = (apart, cell) => Math.max(1, Math.ceil(apart / cell));
const number = (value) => value === null || value === undefined || Number.isNaN(value) ? 'not measured'
  : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : Number(value.toPrecision(3)).toString();
const share = (thousandths) => thousandths < 0 ? 'not measured' : (thousandths / 1000).toFixed(3);

function waveOf(survey, layer) {
  const found = survey.waves.findIndex(([first, last]) => layer >= first && layer <= last);
  return found < 0 ? '' : `; wave ${found + 1}`;
}
