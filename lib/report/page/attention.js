// The attention of one head over the tokens of one sequence.

function attentionPart() {
  const canvas = find('pattern');
  const seen = data.attention;
  if (!canvas || !seen) {
    chooseHead = () => 'The page holds no attention patterns.';
    return;
  }
  const list = find('tokens');
  const said = find('seen-said');
  const pickSequence = find('seen-sequence'), pickLayer = find('seen-layer'), pickHead = find('seen-head');
  let map = 0, query = -1, key = 0, bytes = null, cell = 8;
  const sequence = () => seen.sequences[Number(pickSequence.value)];
  const tokens = () => sequence().tokens;
  const value = (q, k) => bytes[q * (q + 1) / 2 + k] / 255;

  // Mean over the queries after the key, as sinks are measured.
  function mean(k) {
    let sum = 0, count = 0;
    for (let q = k + 1; q < tokens().length; ++q, ++count) sum += value(q, k);
    return count ? sum / count : value(k, k);
  }
  function options(select, values, words) {
    select.replaceChildren(...values.map((v) => new Option(words(v), v)));
  }
  function load() {
    const text = atob(sequence().maps[map]);
    bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    query = query < tokens().length ? query : -1;
    key = Math.min(key, tokens().length - 1);
  }
  function drawPattern() {
    const size = tokens().length;
    const room = Math.min(canvas.parentElement.clientWidth, 460) - 2;
    cell = clamp(Math.floor(room / size), 3, 16);
    const pen = surface(canvas, cell * size + 2, cell * size + 2);
    for (let q = 0; q < size; ++q) {
      for (let k = 0; k <= q; ++k) {
        pen.fillStyle = tone(value(q, k)).css;
        pen.fillRect(1 + k * cell, 1 + q * cell, cell - (cell > 6 ? 1 : 0), cell - (cell > 6 ? 1 : 0));
      }
    }
    pen.strokeStyle = shade('--ink');
    pen.lineWidth = 1.5;
    if (query >= 0) pen.strokeRect(1, 1 + query * cell - 0.5, (query + 1) * cell, cell);
    pen.strokeRect(1 + key * cell, 1 + (query < 0 ? key : Math.max(query, key)) * cell, cell, cell);
  }
  function drawTokens() {
    if (list.childElementCount !== tokens().length || list.dataset.of !== pickSequence.value) {
      list.replaceChildren(...tokens().map((text, t) => {
        const span = document.createElement('span');
        span.textContent = text;
        span.id = `token-${t}`;
        span.setAttribute('role', 'option');
        return span;
      }));
      list.dataset.of = pickSequence.value;
    }
    [...list.children].forEach((span, t) => {
      const later = query >= 0 && t > query;
      const colour = tone(later ? 0 : query < 0 ? mean(t) : value(query, t));
      span.style.background = later ? 'none' : colour.css;
      span.style.color = later ? 'inherit' : colour.ink;
      span.className = `${later ? 'later' : ''}${t === key ? ' at' : ''}`;
      span.setAttribute('aria-selected', t === query ? 'true' : 'false');
    });
    list.setAttribute('aria-activedescendant', `token-${key}`);
  }
  function tell() {
    const [layer, head] = seen.heads[map];
    const quoted = (t) => `${t} “${tokens()[t]}”`;
    const amount = (v) => v < 0.002 ? 'under 0.002' : v.toFixed(3);
    said.textContent = query < 0
      ? `Layer ${layer}, head ${head}: key ${quoted(key)} draws ${amount(mean(key))}, mean over the queries after it`
      : key > query ? `Layer ${layer}, head ${head}: query ${quoted(query)} cannot see key ${quoted(key)}`
        : `Layer ${layer}, head ${head}: query ${quoted(query)} gives key ${quoted(key)} ${amount(value(query, key))}`;
  }
  function draw() {
    drawPattern();
    drawTokens();
    tell();
  }
  function choose(m) {
    map = m;
    chosen = seen.heads[m];
    const [layer, head] = chosen;
    pickLayer.value = layer;
    options(pickHead, seen.heads.filter(([l]) => l === layer).map(([, h]) => h), (h) => String(h));
    pickHead.value = head;
    load();
  }
  function take(m) {
    choose(m);
    draw();
  }
  const index = (layer, head) => seen.heads.findIndex(([l, h]) => l === layer && h === head);

  options(pickSequence, seen.sequences.map((_, i) => i), (i) => {
    const words = seen.sequences[i].tokens.join('');
    return `${i}: ${words.length > 44 ? `${words.slice(0, 44)}…` : words}`;
  });
  options(pickLayer, [...new Set(seen.heads.map(([l]) => l))], (l) => String(l));
  pickSequence.addEventListener('change', () => { load(); draw(); });
  pickLayer.addEventListener('change', () => {
    const layer = Number(pickLayer.value);
    const same = index(layer, chosen[1]);
    take(same >= 0 ? same : seen.heads.findIndex(([l]) => l === layer));
    for (const redraw of redraws) redraw();
  });
  pickHead.addEventListener('change', () => {
    take(index(Number(pickLayer.value), Number(pickHead.value)));
    for (const redraw of redraws) redraw();
  });
  find('seen-mean').addEventListener('click', () => { query = -1; draw(); });
  const over = (event) => {
    const box = canvas.getBoundingClientRect();
    const k = Math.floor((event.clientX - box.left - 1) / cell);
    const q = Math.floor((event.clientY - box.top - 1) / cell);
    return q >= 0 && q < tokens().length && k >= 0 && k < tokens().length ? [q, k] : null;
  };
  canvas.addEventListener('pointermove', (event) => {
    const place = over(event);
    if (!place) return;
    [query, key] = place;
    draw();
  });
  canvas.addEventListener('keydown', (event) => {
    const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    if (!steps[event.key]) return;
    query = clamp(query + steps[event.key][0], -1, tokens().length - 1);
    key = clamp(key + steps[event.key][1], 0, tokens().length - 1);
    draw();
    event.preventDefault();
  });
  const tokenOf = (event) => [...list.children].indexOf(event.target);
  list.addEventListener('pointerover', (event) => {
    if (tokenOf(event) < 0) return;
    key = tokenOf(event);
    draw();
  });
  list.addEventListener('click', (event) => {
    if (tokenOf(event) < 0) return;
    query = query === tokenOf(event) ? -1 : tokenOf(event);
    draw();
  });
  list.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
      key = clamp(key + (event.key === 'ArrowRight' ? 1 : -1), 0, tokens().length - 1);
    } else if (event.key === 'Enter' || event.key === ' ') {
      query = query === key ? -1 : key;
    } else {
      return;
    }
    draw();
    event.preventDefault();
  });

  chooseHead = (layer, head) => {
    const m = index(layer, head);
    if (m < 0) return 'This head’s attention is not in the page.';
    take(m);
    return 'Its attention is shown below.';
  };
  // The strongest head first.
  const survey = data.surveys[0];
  let best = 0, most = -1;
  seen.heads.forEach(([l, h], m) => {
    const sink = survey && l < survey.layers && h < survey.heads ? survey.mean[l * survey.heads + h] : 0;
    if (sink > most) { most = sink; best = m; }
  });
  choose(best);
  redraws.push(draw);
}
