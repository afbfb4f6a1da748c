// The page itself: it asks every two seconds, shows what it hears, ticks in between, and says when it hears nothing.
const every = 2000, longest = 15_000;
const life = { timer: 0, asking: false, again: false, failed: 0, since: 0, lost: false, loaded: false, bent: 0 };

// poll asks for everything that is shown, and sets the time of the next.
async function poll() {
  if (life.asking) { life.again = true; return; }
  life.asking = true;
  life.again = false;
  clearTimeout(life.timer);
  const holderAsked = asked.holder;
  try {
    const sent = performance.now();
    const pipeline = await ask('/pipeline');
    clock.learn(ms(pipeline.body.at), sent, performance.now());
    const [top, stats, poh, one] = await Promise.all([
      ask('/top' + query({ n: asked.n + headroom })), ask('/stats' + query({})), ask('/poh'),
      holderAsked ? ask('/holders' + query({ id: holderAsked })) : null,
    ]);
    take({ pipeline, top, stats, poh, one: holderAsked === asked.holder ? one : null });
    Object.assign(life, { failed: 0, lost: false });
  } catch (error) {
    lose(error);
  }
  life.asking = false;
  const wait = life.again ? 0 : life.failed ? Math.min(longest, 500 * 2 ** life.failed) : every;
  if (!document.hidden) life.timer = setTimeout(poll, wait);
}

// take shows what was heard.
function take({ pipeline, top, stats, poh, one }) {
  takePipeline(pipeline.body);
  if (poh.ok) takePoh(poh.body);
  life.loaded = top.status !== 503;
  if (top.ok && stats.ok) {
    takeRanking(top.body);
    takeTotals(stats.body);
    life.bent = nextBend();
  }
  if (one && one.status !== 503) takeHolder(one);
  say(find('choice-said'), top.ok || top.status === 503 ? '' : top.error.reason);
  const wrong = troubles(pipeline.body);
  if (!life.loaded) tell('waiting', 'Loading', wrong.length ? wrong : ['The exporter is loading the state.']);
  else if (wrong.length) tell('stale', 'Behind', wrong);
  else tell('live', asked.at ? 'Connected' : 'Live', []);
  tick();
}

// lose says that nothing is heard. What is shown stays as it was then.
function lose(error) {
  life.failed++;
  clock.forget();
  if (life.lost) return;
  // A question that failed may be asked again at once before anything is said; not one that was waited for in vain.
  if (life.failed < 2 && error.name !== 'TimeoutError') return;
  Object.assign(life, { lost: true, since: clock.last });
  const reason = error.name === 'TimeoutError' ? 'it does not answer in time' : error instanceof TypeError ? 'it cannot be reached' : error.message;
  tell('lost', 'Disconnected', [`No connection to the exporter: ${reason}. ` + (life.since ? `The numbers are those of ${clockTime(life.since)} and stand still; ` : '') + 'it is tried again and again.']);
}

// tell says in what state the page is, and what is wrong. The first sentences are enough: the pipeline's tables have the rest.
function tell(state, word, sentences) {
  find('state').dataset.state = state;
  say(find('state-text'), word);
  const text = sentences.slice(0, 3).join(' ') + (sentences.length > 3 ? ` And ${sentences.length - 3} more.` : '');
  say(find('banner'), text);
  find('banner').dataset.state = state;
  find('banner').hidden = text === '';
  document.body.classList.toggle('lost', state === 'lost');
}

// tick shows the present.
function tick() {
  if (document.hidden || life.failed > 0) return;
  const now = clock.now();
  if (!now) return;
  say(find('clock'), clockTime(now) + ' UTC');
  if (!ranking.total) return;
  const t = asked.at ? ranking.total.at : now;
  showTotals(t);
  showRanking(t);
  tickHolder(t);
  say(find('ranking-note'), `the first ${count(Math.min(asked.n, ranking.of))} of ${count(ranking.of)}` + (asked.at ? `, at ${instant(t)}` : ''));
  if (!asked.at && now > life.bent) { // a line has bent: what is it from here on?
    life.bent = Infinity;
    poll();
  }
}

let ticking = 0;
function beat() {
  clearInterval(ticking);
  ticking = setInterval(tick, stillness.matches ? 1000 : 100);
}

// follow makes the page what its address says.
function follow() {
  const before = { ...asked };
  readAddress();
  find('choice-n').value = String(asked.n);
  const at = /^[0-9.]+$/.test(asked.at) ? Number(asked.at) * 1000 : Date.parse(asked.at);
  find('choice-at').value = asked.at && at >= 0 ? new Date(at).toISOString().slice(0, 19) : '';
  find('choice-now').setAttribute('aria-pressed', String(!asked.at));
  find('search-id').value = asked.holder;
  document.title = asked.holder ? `${shown(asked.holder)} · Holdfast` : 'Holdfast';
  if (asked.holder !== before.holder) {
    closeHolder();
    if (asked.holder) {
      find('holder').hidden = false;
      find('holder-title').replaceChildren(idOf(asked.holder));
      say(find('holder-said'), 'Asking…');
      refill(find('holder-body'));
      if (before.started) find('holder-title').focus();
    }
  }
  asked.started = true;
  ranking.order = '';
  poll();
}

addEventListener('hashchange', follow);
document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });
stillness.addEventListener('change', beat);
addEventListener('resize', () => { if (holder.answer) drawHolder(clock.now()); });

find('search').addEventListener('submit', event => {
  event.preventDefault();
  const id = find('search-id').value;
  if (!id) { say(find('search-said'), 'Write the id of a holder, exactly as it stands in the events.'); return; }
  say(find('search-said'), '');
  if (id === asked.holder) poll();
  else go({ holder: id });
});
find('choices').addEventListener('submit', event => event.preventDefault());
find('choice-n').addEventListener('change', event => go({ n: Number(event.target.value) }));
find('choice-at').addEventListener('change', event => go({ at: event.target.value ? new Date(event.target.value + 'Z').toISOString().replace('.000Z', 'Z') : '' }));
find('choice-now').addEventListener('click', () => go({ at: '' }));
find('holder-close').addEventListener('click', () => { go({ holder: '' }); find('ranking').focus({ preventScroll: true }); });
find('skip').addEventListener('click', event => { event.preventDefault(); find('ranking').focus(); });

// What the reader has chosen for this page stays in this browser.
const kept = { get: key => { try { return localStorage.getItem(key); } catch { return null; } }, set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* it is then not kept */ } } };
const theme = value => { find('theme').value = value; document.documentElement.dataset.theme = value; };
theme(kept.get('theme') ?? '');
find('theme').addEventListener('change', event => { theme(event.target.value); kept.set('theme', event.target.value); });
find('shortcuts').checked = kept.get('shortcuts') !== 'off';
find('shortcuts').addEventListener('change', event => kept.set('shortcuts', event.target.checked ? 'on' : 'off'));

addEventListener('keydown', event => {
  if (!find('shortcuts').checked || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches('input:not([type=checkbox]), select');
  if (event.key === 'Escape' && asked.holder && !typing) find('holder-close').click();
  else if (event.key === '/' && !typing) { event.preventDefault(); find('search-id').focus(); find('search-id').select(); }
  else if (event.key === 'n' && !typing && asked.at) go({ at: '' });
});

beat();
follow();
