// The last part: sets the others to work.

function copyPart() {
  const button = find('copy');
  if (!button) return;
  button.addEventListener('click', async () => {
    const line = find('command');
    let done = true;
    try {
      await navigator.clipboard.writeText(line.textContent);
    } catch {
      getSelection().selectAllChildren(line);
      done = document.execCommand('copy');
    }
    find('copy-said').textContent = done ? 'Copied.' : 'Selected; copy it with Ctrl C.';
  });
}

makeRamp();
mapPart();
profilePart();
attentionPart();
graphPart();
copyPart();
const redraw = () => { for (const draw of redraws) draw(); };
redraw();
dark.addEventListener('change', () => { makeRamp(); redraw(); });
let wide = document.documentElement.clientWidth;
window.addEventListener('resize', () => {
  if (document.documentElement.clientWidth === wide) return;
  wide = document.documentElement.clientWidth;
  redraw();
});
document.documentElement.dataset.ready = 'true';
