// The drawing of the circuit: moved, zoomed, asked.

function graphPart() {
  const frame = find('graph-frame');
  if (!frame) return;
  const graph = find('graph');
  const said = find('graph-said');
  const width = Number(graph.dataset.width), height = Number(graph.dataset.height);
  const nodes = [...graph.querySelectorAll('.node')], edges = [...graph.querySelectorAll('.edge')];
  let view = {x: 0, y: 0, w: width, h: height};
  let pinned = null;

  // A page not shown yet may have no width.
  const room = () => [Math.max(frame.clientWidth, 1), Math.max(frame.clientHeight, 1)];
  const show = () => graph.setAttribute('viewBox', `${view.x} ${view.y} ${view.w} ${view.h}`);
  function fitWidth() {
    const scale = Math.min(room()[0] / width, 1.1);
    frame.style.height = `${Math.ceil(clamp(height * scale, 160, 0.8 * window.innerHeight))}px`;
    view = {w: room()[0] / scale, h: room()[1] / scale, y: 0};
    view.x = (width - view.w) / 2;
    show();
  }
  function fit() {
    const [w, h] = room();
    const scale = Math.min(w / width, h / height);
    view = {w: w / scale, h: h / scale};
    view.x = (width - view.w) / 2;
    view.y = (height - view.h) / 2;
    show();
  }
  function zoom(factor, px = 0.5, py = 0.5) {
    const wanted = clamp(view.w * factor, 80, 20 * Math.max(width, height));
    const real = wanted / view.w;
    view.x += view.w * (1 - real) * px;
    view.y += view.h * (1 - real) * py;
    view.w *= real;
    view.h *= real;
    show();
  }
  function pan(dx, dy) {
    view.x = clamp(view.x + dx, -view.w + 40, width - 40);
    view.y = clamp(view.y + dy, -view.h + 40, height - 40);
    show();
  }
  function light(part) {
    graph.classList.toggle('chosen', part !== null);
    for (const each of [...nodes, ...edges]) each.classList.remove('on', 'near');
    if (!part) return;
    part.classList.add('on');
    said.textContent = part.dataset.words;
    if (part.classList.contains('edge')) {
      for (const end of [part.dataset.from, part.dataset.to]) nodes[Number(end)].classList.add('near');
      return;
    }
    const own = part.dataset.node;
    let into = 0, out = 0;
    for (const edge of edges) {
      if (edge.dataset.from !== own && edge.dataset.to !== own) continue;
      edge.classList.add('on');
      if (edge.dataset.to === own) ++into; else ++out;
      nodes[Number(edge.dataset.from === own ? edge.dataset.to : edge.dataset.from)].classList.add('near');
    }
    said.textContent += `; ${into} edges in, ${out} out`;
  }
  for (const part of [...nodes, ...edges]) {
    part.addEventListener('pointerenter', () => light(part));
    part.addEventListener('pointerleave', () => light(pinned));
  }
  nodes.forEach((node) => {
    node.addEventListener('focus', () => {
      light(node);
      const [, x, y] = /translate\(([-\d.]+) ([-\d.]+)\)/.exec(node.getAttribute('transform')).map(Number);
      if (x < view.x || x > view.x + view.w || y < view.y || y > view.y + view.h) {
        view.x = x - view.w / 2;
        view.y = y - view.h / 2;
        show();
      }
    });
    node.addEventListener('blur', () => light(pinned));
  });
  let from = null, moved = false;
  frame.addEventListener('pointerdown', (event) => {
    from = {x: event.clientX, y: event.clientY};
    moved = false;
  });
  frame.addEventListener('pointermove', (event) => {
    if (!from || !event.buttons) { from = null; return; }
    const dx = event.clientX - from.x, dy = event.clientY - from.y;
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) frame.setPointerCapture(event.pointerId);
    moved = true;
    frame.classList.add('dragged');
    pan(-dx * view.w / room()[0], -dy * view.h / room()[1]);
    from = {x: event.clientX, y: event.clientY};
  });
  frame.addEventListener('pointerup', () => { from = null; frame.classList.remove('dragged'); });
  frame.addEventListener('click', (event) => {
    if (moved) return;
    const node = event.target.closest('.node');
    pinned = node && node !== pinned ? node : null;
    light(pinned);
  });
  frame.addEventListener('wheel', (event) => {
    if (!event.ctrlKey) return;
    const box = frame.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    event.preventDefault();
  }, {passive: false});
  frame.addEventListener('keydown', (event) => {
    const step = 0.1;
    const moves = {ArrowUp: [0, -step], ArrowDown: [0, step], ArrowLeft: [-step, 0], ArrowRight: [step, 0]};
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) pan(moves[event.key][0] * view.w, moves[event.key][1] * view.h);
    else if (event.key === '+' || event.key === '=') zoom(1 / 1.25);
    else if (event.key === '-') zoom(1.25);
    else if (event.key === '0') fit();
    else if (event.key === 'Escape') { pinned = null; light(null); } else return;
    event.preventDefault();
  });
  find('zoom-in').addEventListener('click', () => zoom(1 / 1.25));
  find('zoom-out').addEventListener('click', () => zoom(1.25));
  find('zoom-fit').addEventListener('click', fit);
  find('zoom-width').addEventListener('click', fitWidth);
  redraws.push(fitWidth);
}
