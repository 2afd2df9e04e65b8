// Norms and directions over layers.

function profilePart() {
  const norms = find('norms');
  if (!norms) return;
  const directions = find('directions');
  const pick = find('profile-survey');
  const said = find('profile-said');
  const left = 54, right = 76, top = 10, foot = 34;
  let at = null;
  const survey = () => data.surveys[Number(pick.value)];
  const points = () => 2 * survey().layers + 1;
  const place = (width, j) => left + (width - left - right) * j / (points() - 1);

  function path(values, width, y) {
    let text = '', down = false;
    (values || []).forEach((value, j) => {
      const height = value === null ? NaN : y(value);
      if (!Number.isFinite(height)) { down = false; return; }
      text += `${down ? 'L' : 'M'}${place(width, j).toFixed(1)} ${height.toFixed(1)}`;
      down = true;
    });
    return text;
  }
  function plot(box, height, lines, ticks, y) {
    const s = survey();
    const width = Math.max(box.clientWidth, 260);  // a page not shown yet may have none
    const ground = height - foot;
    let text = `<svg viewBox="0 0 ${width} ${height}" height="${height}" aria-hidden="true">`;
    for (const [first, last] of s.waves) {
      const x = place(width, 2 * first);
      text += `<rect class="band" x="${x}" y="${top}" width="${place(width, 2 * last + 2) - x}" height="${ground - top}"/>`;
    }
    for (const [value, words] of ticks) {
      text += `<path class="grid" d="M${left} ${y(value)}H${width - right}"/><text x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${words}</text>`;
    }
    const step = every(34, (width - left - right) / s.layers);
    for (let l = 0; l <= s.layers; l += step) {
      text += `<text x="${place(width, 2 * l)}" y="${ground + 15}" text-anchor="middle">${l}</text>`;
    }
    text += `<text x="${(left + width - right) / 2}" y="${ground + 28}" text-anchor="middle">stream entering block</text>`;
    const labels = [];
    for (const [name, style, values] of lines) {
      text += `<path class="${style}" d="${path(values, width, y)}"/>`;
      const last = values ? values.filter((v) => v !== null).pop() : undefined;
      if (last !== undefined && Number.isFinite(y(last))) labels.push([y(last), name, style]);
    }
    labels.sort((a, b) => a[0] - b[0]);
    labels.forEach((label, i) => { if (i && label[0] < labels[i - 1][0] + 13) label[0] = labels[i - 1][0] + 13; });
    for (const [height, name, style] of labels) {
      text += `<text class="${style}" x="${width - right + 6}" y="${height + 4}">${name}</text>`;
    }
    if (at !== null) text += `<path class="at" d="M${place(width, at).toFixed(1)} ${top}V${ground}"/>`;
    box.innerHTML = `${text}</svg>`;
  }
  function draw() {
    const s = survey();
    const positive = [...(s.norm || []), ...(s.median || [])].filter((v) => v > 0).map(Math.log10);
    const low = positive.length ? Math.floor(Math.min(...positive)) : 0;
    const high = positive.length ? Math.max(low + 1, Math.ceil(Math.max(...positive))) : 1;
    const y = (height, value) => top + (height - foot - top) * (high - Math.log10(value)) / (high - low);
    const ticks = [];
    for (let i = low; i <= high; ++i) ticks.push([10 ** i, (10 ** i).toLocaleString('en', {maximumFractionDigits: 6})]);
    plot(norms, 240, [['position 0', 'p0', s.norm], ['elsewhere', 'other', s.median]], ticks, (v) => y(240, v));
    const all = [...(s.cosine || []), ...(s.separability || [])].filter((v) => v !== null);
    const least = Math.min(0, Math.floor(10 * Math.min(0, ...all)) / 10);
    const flat = (v) => top + (170 - foot - top) * (1 - v) / (1 - least);
    plot(directions, 170, [['cosine', 'p0', s.cosine], ['told apart', 'other', s.separability]],
      [[1, '1'], [0.5, '0.5'], [0, '0']].concat(least < 0 ? [[least, String(least)]] : []), flat);
  }
  function tell() {
    const s = survey();
    const where = at === 2 * s.layers ? 'Leaving the last block'
      : at % 2 ? `Stream ${at / 2}, between attention and MLP of block ${(at - 1) / 2}` : `Stream entering block ${at / 2}`;
    const value = (list) => number(list ? list[at] : null);
    said.textContent = `${where}: norm at position 0 ${value(s.norm)}, elsewhere ${value(s.median)}; cosine ${value(s.cosine)}; told apart ${value(s.separability)}`;
  }
  function move(j) {
    at = clamp(j, 0, points() - 1);
    draw();
    tell();
  }
  for (const box of [norms, directions]) {
    box.addEventListener('pointermove', (event) => {
      const frame = box.getBoundingClientRect();
      const j = Math.round((event.clientX - frame.left - left) / (frame.width - left - right) * (points() - 1));
      if (j >= 0 && j < points() && j !== at) move(j);
    });
    box.addEventListener('keydown', (event) => {
      if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
      move(at === null ? 0 : at + (event.key === 'ArrowLeft' ? -1 : 1));
      event.preventDefault();
    });
  }
  pick.addEventListener('change', () => { at = null; draw(); });
  redraws.push(draw);
}
