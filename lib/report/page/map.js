// The map of sinks.

// The head whose attention is shown; told by the map, followed by the attention part.
let chooseHead = () => '';
let chosen = null;

function mapPart() {
  const canvas = find('map');
  if (!canvas) return;
  const pick = find('map-survey');
  const said = find('map-said');
  let cursor = null;
  let shape = {};
  const survey = () => data.surveys[Number(pick.value)];

  function draw() {
    const s = survey();
    const width = canvas.parentElement.clientWidth;
    const left = s.layers > 100 ? 48 : 38, top = 8, below = 34;
    const right = width > 520 ? 120 : 8;
    const cw = clamp(Math.floor((width - left - right) / s.heads), 3, 26);
    const ch = s.layers <= 48 ? 16 : s.layers <= 90 ? 9 : 6;
    shape = {left, top, cw, ch};
    const mapWidth = cw * s.heads;
    const pen = surface(canvas, left + mapWidth + right, top + ch * s.layers + below);
    const gap = cw >= 8 && ch >= 8 ? 1 : 0;
    for (let l = 0; l < s.layers; ++l) {
      for (let h = 0; h < s.heads; ++h) {
        const value = s.mean[l * s.heads + h];
        pen.fillStyle = value < 0 ? shade('--nan') : tone(value / 1000).css;
        pen.fillRect(left + h * cw, top + l * ch, cw - gap, ch - gap);
      }
    }
    pen.strokeStyle = shade('--rule');
    pen.strokeRect(left - 0.5, top - 0.5, mapWidth + 1, ch * s.layers + 1);
    pen.fillStyle = shade('--soft');
    pen.textAlign = 'right';
    pen.textBaseline = 'middle';
    for (let l = 0; l < s.layers; l += every(14, ch)) pen.fillText(l, left - 6, top + (l + 0.5) * ch);
    pen.textAlign = 'center';
    pen.textBaseline = 'top';
    for (let h = 0; h < s.heads; h += every(24, cw)) pen.fillText(h, left + (h + 0.5) * cw, top + ch * s.layers + 4);
    pen.fillText('head', left + mapWidth / 2, top + ch * s.layers + 19);
    pen.save();
    pen.translate(8, top + ch * s.layers / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText('layer', 0, -6);
    pen.restore();
    if (right > 50) {
      const start = left + mapWidth + 26;
      pen.fillStyle = shade('--p0');
      for (let l = 0; l < s.layers; ++l) {
        const mean = s.layer_mean[l];
        if (mean > 0) pen.fillRect(start, top + l * ch + 1, 88 * mean / 1000, Math.max(1, ch - 2));
      }
      pen.fillStyle = shade('--soft');
      pen.textAlign = 'left';
      pen.fillText('mean, 0 to 1', start, top + ch * s.layers + 4);
      s.waves.forEach(([first, last], i) => {
        pen.fillStyle = shade('--ink');
        pen.fillRect(left + mapWidth + 6, top + first * ch, 3, (last - first + 1) * ch - 1);
        pen.fillText(i + 1, left + mapWidth + 13, top + first * ch);
      });
    }
    const frame = (cell, style, width) => {
      if (!cell) return;
      pen.strokeStyle = style;
      pen.lineWidth = width;
      pen.strokeRect(left + cell[1] * cw - 1, top + cell[0] * ch - 1, cw + 1, ch + 1);
    };
    if (chosen && chosen[0] < s.layers && chosen[1] < s.heads) frame(chosen, shade('--no'), 2);
    frame(cursor, shade('--ink'), 2);
    find('map-scale').innerHTML = `0 <i style="background:linear-gradient(90deg,${ramp.map((c) => c.css).filter((c, i) => i % 15 === 0).join(',')})"></i> 1 &nbsp; attention to position 0`;
  }
  function tell() {
    const s = survey();
    const [l, h] = cursor;
    const mean = s.layer_mean.length ? `; mean of the layer ${share(s.layer_mean[l])}` : '';
    const rate = s.rate.length && s.rate[l] >= 0 ? `, ${(s.rate[l] / 10).toFixed(0)} % of its heads above ${s.epsilon}` : '';
    said.textContent = `Layer ${l}, head ${h}: sink ${share(s.mean[l * s.heads + h])}${mean}${rate}${waveOf(s, l)}`;
  }
  function move(l, h) {
    const s = survey();
    cursor = [clamp(l, 0, s.layers - 1), clamp(h, 0, s.heads - 1)];
    draw();
    tell();
  }
  function at(event) {
    const box = canvas.getBoundingClientRect();
    const s = survey();
    const l = Math.floor((event.clientY - box.top - shape.top) / shape.ch);
    const h = Math.floor((event.clientX - box.left - shape.left) / shape.cw);
    return l >= 0 && l < s.layers && h >= 0 && h < s.heads ? [l, h] : null;
  }
  function choose() {
    const answer = chooseHead(cursor[0], cursor[1]);
    draw();
    tell();
    said.textContent += `. ${answer}`;
  }
  canvas.addEventListener('pointermove', (event) => {
    const cell = at(event);
    if (cell && String(cell) !== String(cursor)) move(...cell);
  });
  canvas.addEventListener('click', (event) => {
    const cell = at(event);
    if (!cell) return;
    move(...cell);
    choose();
  });
  canvas.addEventListener('keydown', (event) => {
    const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    if (steps[event.key]) {
      const [l, h] = cursor || [0, 0];
      if (cursor) move(l + steps[event.key][0], h + steps[event.key][1]); else move(0, 0);
    } else if (event.key === 'Enter' && cursor) {
      choose();
    } else {
      return;
    }
    event.preventDefault();
  });
  pick.addEventListener('change', () => { cursor = null; draw(); });
  redraws.push(draw);
}
