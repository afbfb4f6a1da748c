// The exporter: questions to it, its clock, and what the address of this page asks for.

// ask gets an answer. It throws if there is none, or none of an exporter's.
async function ask(path) {
  const response = await fetch(path, { cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(8000) });
  const body = await response.json().catch(() => null);
  if (body === null || typeof body !== 'object' || !response.ok && !body.error) {
    throw new Error(`the exporter answers with ${response.status} and no JSON`);
  }
  return { ok: response.ok, status: response.status, body, error: body.error };
}

// clock tells the exporter's time. Of its last answers the one that came quickest tells best.
const clock = {
  samples: [],
  last: 0,
  learn(at, sent, received) {
    this.samples.push({ offset: at - (sent + received) / 2, took: received - sent });
    if (this.samples.length > 8) this.samples.shift();
  },
  // now never goes back, save by more than two seconds: then the exporter's clock was set, or it is another exporter.
  now() {
    if (!this.samples.length) return this.last;
    const best = this.samples.reduce((a, b) => b.took <= a.took ? b : a);
    const now = performance.now() + best.offset;
    if (now > this.last || now < this.last - 2000) this.last = now;
    return this.last;
  },
  forget() { this.samples = []; },
};

// asked is what the page shows: how many, at which instant ('' is now), which holder. It stands in the address behind #, so
// that it can be shared and the browser's buttons go back and forth in it.
const asked = { n: 10, at: '', holder: '' };

function readAddress() {
  const q = new URLSearchParams(location.hash.slice(1));
  const n = Number(q.get('n'));
  asked.n = [...find('choice-n').options].some(o => Number(o.value) === n) ? n : 10;
  asked.at = q.get('at') ?? '';
  asked.holder = q.get('holder') ?? '';
}

// address is the part behind # for what is shown, changed in some respect.
function address(change) {
  const next = { ...asked, ...change };
  const q = new URLSearchParams();
  if (next.holder) q.set('holder', next.holder);
  if (next.n !== 10) q.set('n', next.n);
  if (next.at) q.set('at', next.at);
  return '#' + q;
}

const go = change => { location.hash = address(change); };

// query is what every question about the ranking says.
const query = parameters => {
  const q = new URLSearchParams(parameters);
  if (asked.at) q.set('at', asked.at);
  return q.size ? '?' + q : '';
};

// linkTo is a link to a holder.
const linkTo = id => el('a', { href: address({ holder: id }), 'data-focus': 'to ' + id }, idOf(id));
