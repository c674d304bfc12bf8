'use strict';
(() => {
  const ROWS = 200, PODS = 100, CARDS = 20, PICTURES = 3, NOTES = 6;
  const SVG = 'http://www.w3.org/2000/svg';
  const byId = (id) => document.getElementById(id);

  // Everything from outside becomes text: no mark-up is ever made of it.
  const el = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== undefined && value !== null && value !== '') node.setAttribute(name, value);
    }
    node.append(...children.map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
    return node;
  };
  const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const two = (n, width) => String(n).padStart(width || 2, '0');
  const clock = (wall) => {
    const t = new Date(wall);
    return el('time', { datetime: t.toISOString(), title: t.toISOString() },
      `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${two(t.getMilliseconds(), 3)}`);
  };
  const ms = (value) => {
    if (value === null || value === undefined) return '—';
    const size = Math.abs(value);
    if (size >= 10000) return `${(value / 1000).toFixed(1)} s`;
    return size >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(0)} ms`;
  };
  const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

  let boot = null, last = 0, state = null, source = null, timer = null;
  let failed = 0, pods = 0, announced = 0;
  const failures = [], propagation = [], rollouts = new Map(), cards = new Map();

  // The failures.
  const addVerdict = (v) => {
    if (v.blame === 'not-a-request') return;
    failed += 1;
    failures.unshift(v);
    if (failures.length > ROWS) failures.pop();
  };
  const why = (v) => (v.finding ? v.finding.because : `not explained: ${(v.missing || []).join(', ')}`);
  const drawFailures = () => {
    const rows = failures.map((v) => el('tr', {},
      el('td', {}, clock(v.wall)),
      el('td', {}, v.outcome),
      el('td', { class: v.blame === 'not-the-rollout' ? 'cause other' : 'cause' }, v.cause),
      el('td', {}, v.pod ? `${v.pod.namespace}/${v.pod.name}` : v.service ? `service ${v.service.namespace}/${v.service.name}` : 'no pod',
        el('small', {}, ` from ${v.client}`)),
      el('td', {}, why(v) + (v.confidence.level === 'full' ? '' : ' (unsure: events were lost)'))));
    byId('failures').tBodies[0].replaceChildren(...rows);
    setText(byId('failures-count'), failed ? `${failed}, the newest first` : 'none');
    setText(byId('failures-more'), failed > failures.length ? `${failed - failures.length} more before these: see the whole report.` : '');
  };

  // How long the node took.
  const addPod = (p) => {
    pods += 1;
    propagation.unshift(p);
    if (propagation.length > PODS) propagation.pop();
  };
  const drawPods = () => {
    const rows = propagation.map((p) => {
      const removal = p.change === 'removal';
      const late = removal && p.stopped_serving_ms !== null && p.rules_ms !== null && p.rules_ms > p.stopped_serving_ms;
      return el('tr', {},
        el('td', {}, clock(p.wall)),
        el('td', {}, `${p.namespace}/${p.pod}`, ...(p.pod_node ? [` (on ${p.pod_node})`] : [])),
        el('td', {}, removal ? 'ended' : 'began'),
        el('td', { class: 'n' }, ms(p.slice_ms)),
        el('td', { class: late ? 'n late' : 'n', title: late ? 'later than the pod stopped serving' : '' },
          ms(p.rules_ms), ...(late ? [el('span', { class: 'hidden' }, ' later than the pod stopped serving')] : [])),
        el('td', { class: 'n' }, ms(p.connection_ms)),
        el('td', { class: 'n' }, ms(removal ? p.stopped_serving_ms : undefined)));
    });
    byId('propagation').tBodies[0].replaceChildren(...rows);
    setText(byId('propagation-more'), pods > propagation.length ? `${pods - propagation.length} more before these.` : pods ? '' : 'No pod of a service has ended or begun yet.');
  };

  // The rollouts.
  const keyOf = (r) => `${r.namespace} ${r.workload.kind}/${r.workload.name} ${r.began} ${boot}`;
  const addRollout = (r) => {
    rollouts.set(keyOf(r), { told: r, over: true });
    trim();
  };
  const trim = () => {
    while (rollouts.size > CARDS) {
      const oldest = rollouts.keys().next().value;
      rollouts.delete(oldest);
      const card = cards.get(oldest);
      if (card) { card.root.remove(); cards.delete(oldest); }
    }
  };
  const addUnderWay = (list) => {
    const now = new Set(list.map(keyOf));
    for (const [key, one] of rollouts) if (!one.over && !now.has(key)) one.over = true;
    for (const u of list) {
      const known = rollouts.get(keyOf(u));
      if (u.summed_up && known) { known.elsewhere = true; continue; }
      rollouts.set(keyOf(u), { told: u, over: false });
    }
    trim();
  };
  const newCard = (key) => {
    const title = el('h3', {});
    const card = {
      root: el('article', { class: 'story' }), title, tag: el('span', { class: 'tag' }), sub: el('p', { class: 'sub' }),
      facts: el('ul', { class: 'facts' }), causes: el('div', {}), advice: el('div', {}),
      lanes: el('div', { class: 'scroll lanes', tabindex: '0', role: 'region', 'aria-label': 'timeline of each pod' }),
      more: el('p', {}), drawn: '', picture: '', pending: false,
    };
    card.root.append(title, card.sub, card.facts, card.causes, card.advice, card.lanes, card.more);
    cards.set(key, card);
    byId('cards').prepend(card.root);
    return card;
  };
  const fact = (n, what, kind) => el('li', { class: kind }, el('b', {}, n), el('span', {}, what));
  const drawCard = (key, one) => {
    const card = cards.get(key) || newCard(key);
    const r = one.told, drawn = JSON.stringify([r, one.over]);
    if (card.drawn === drawn) return card;
    card.drawn = drawn;
    const tag = one.over ? (r.failed ? ['bad', 'lost requests'] : ['ok', 'no request lost']) : ['on', 'under way'];
    card.title.replaceChildren(`${r.namespace}/${r.workload.kind}/${r.workload.name}`, el('span', { class: `tag ${tag[0]}` }, tag[1]));
    const revision = (v) => (v ? `rev ${v.number === null ? '?' : v.number} (${v.template_hash})` : null);
    const revisions = [revision(r.from), revision(r.to)].filter(Boolean).join(' → ');
    const took = r.took_ms === undefined ? '' : ` in ${ms(r.took_ms)}`;
    card.sub.replaceChildren([revisions, `${String(r.trigger).replaceAll('-', ' ')}${took}`].filter(Boolean).join(' · ') + ' · began ', clock(r.wall));
    const facts = [
      fact(r.failed, r.failed === 1 ? 'request failed' : 'requests failed', r.failed ? 'bad' : 'ok'),
      fact(r.unexplained, 'unexplained', r.unexplained ? 'warn' : ''),
      fact(r.events_lost, 'events lost', r.events_lost ? 'warn' : ''),
    ];
    if (r.here) {
      facts.push(fact(r.here.old, 'old pods here'), fact(`${r.here.new_ready}/${r.here.new}`, 'new pods Ready here'),
        fact(`${r.here.gone}/${r.here.ended}`, 'ending pods gone'));
      if (r.elsewhere.ended) facts.push(fact(`${r.elsewhere.gone}/${r.elsewhere.ended}`, 'gone on other nodes'));
    } else {
      facts.push(fact(r.pods, 'pods ended here'));
      if (r.pods_elsewhere) facts.push(fact(r.pods_elsewhere, 'on other nodes'));
    }
    card.facts.replaceChildren(...facts);
    const causes = r.causes.map((c) => (Array.isArray(c) ? { cause: c[0], count: c[1], summary: '' } : c));
    const rows = causes.map((c) => el('tr', {}, el('td', { class: 'n' }, c.count), el('td', { class: 'cause' }, c.cause), el('td', {}, c.summary)));
    card.causes.replaceChildren(...(rows.length ? [el('h4', {}, 'Why'), el('div', { class: 'scroll' },
      el('table', {}, el('thead', {}, el('tr', {}, el('th', { scope: 'col', class: 'n' }, 'requests'), el('th', { scope: 'col' }, 'cause'), el('th', { scope: 'col' }, 'what happened'))),
        el('tbody', {}, ...rows)))] : []));
    const advice = (r.advice || []).map((a) => el('div', { class: 'do' }, el('b', {}, a.value === null ? a.setting : `${a.setting}: ${a.value}`),
      el('p', {}, `would have prevented ${a.prevents} of ${r.failed}`), el('p', { class: 'because' }, a.because)));
    card.advice.replaceChildren(...(advice.length ? [el('h4', {}, 'What to change'), ...advice] : []));
    const query = new URLSearchParams({ namespace: r.namespace, workload: `${r.workload.kind}/${r.workload.name}` });
    card.more.replaceChildren(el('a', { href: `/api/v1/report?format=html&${query}` }, 'its whole report'));
    return card;
  };

  // The picture comes from where the report has it. Only shapes and text are taken over.
  const SHAPES = new Set(['svg', 'g', 'title', 'text', 'line', 'rect', 'path']);
  const shapes = (from) => {
    if (!SHAPES.has(from.localName)) return null;
    const node = document.createElementNS(SVG, from.localName);
    for (const { name, value } of from.attributes) if (!/^(on|xml|href|style)/i.test(name)) node.setAttribute(name, value);
    for (const child of from.childNodes) {
      const copy = child.nodeType === Node.TEXT_NODE ? document.createTextNode(child.data) : child.nodeType === Node.ELEMENT_NODE ? shapes(child) : null;
      if (copy) node.append(copy);
    }
    return node;
  };
  const drawPicture = async (card, one) => {
    if (card.pending || card.picture === card.drawn + propagation.length) return;
    const wanted = card.drawn + propagation.length;
    card.pending = true;
    try {
      const r = one.told;
      const query = new URLSearchParams({ namespace: r.namespace, workload: `${r.workload.kind}/${r.workload.name}`, began: r.wall });
      const answer = await fetch(`/api/v1/lanes?${query}`);
      if (!answer.ok) return;
      const text = await answer.text();
      card.picture = wanted;
      if (!text) return;
      const parsed = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
      const picture = shapes(parsed);
      if (picture) card.lanes.replaceChildren(picture);
    } catch { /* It is asked for again with the next change. */ } finally { card.pending = false; }
  };
  let pictured = 0;
  const drawRollouts = () => {
    const all = [...rollouts];
    for (const [key, one] of all) drawCard(key, one);
    byId('no-rollouts').hidden = all.length > 0;
    byId('key').hidden = all.length === 0;
    const due = Date.now() - pictured >= 1000;
    if (due) pictured = Date.now();
    const newest = all.slice(-PICTURES);
    let waits = false;
    for (const [key, one] of newest) {
      const card = cards.get(key);
      if (due) drawPicture(card, one); else waits ||= card.picture !== card.drawn + propagation.length;
    }
    if (waits) later(1000);
  };

  // Health and the connection.
  const drawHealth = () => {
    if (!state) return;
    const h = state.health;
    setText(byId('node'), `on ${state.node || 'this node'}`);
    document.title = `zdt on ${state.node}${failed ? `: ${failed} failed` : ''}`;
    setText(byId('version'), `zdt ${state.version}`);
    setText(byId('sees'), h.blind.length ? 'This zdt does not see everything:' : 'This zdt sees everything that happens on its node.');
    byId('blind').replaceChildren(...h.blind.map((b) => el('li', {}, b)));
    byId('health').replaceChildren(
      fact(h.hooks_attached, 'kernel hooks', h.hooks_missing ? 'warn' : ''),
      fact(h.events_lost, 'events lost', h.events_lost ? 'warn' : ''),
      fact(h.watch_gaps, 'gaps in its watches', h.watch_gaps ? 'warn' : ''),
      fact(failed, failed === 1 ? 'failed request' : 'failed requests', failed ? 'bad' : 'ok'));
  };
  const note = (text) => {
    const notes = byId('notes');
    notes.append(el('li', {}, clock(Date.now()), ` ${text}`));
    while (notes.children.length > NOTES) notes.firstChild.remove();
  };
  const link = (kind, text) => {
    const node = byId('link');
    if (node.className !== kind) node.className = kind;
    setText(node, text);
  };
  // Not each row is spoken: the sum is, at most every five seconds.
  const say = () => {
    if (failed === announced || Date.now() - say.at < 5000) return;
    say.at = Date.now();
    announced = failed;
    const newest = failures[0];
    setText(byId('said'), newest ? `${plural(failed, 'failed request', 'failed requests')}; the last one: ${newest.cause}` : '');
  };
  say.at = 0;

  const draw = () => {
    timer = null;
    drawHealth();
    drawRollouts();
    drawFailures();
    drawPods();
    say();
    if (failed !== announced) later(5000);
  };
  let due = 0;
  const later = (wait) => {
    const at = Date.now() + wait;
    if (timer !== null && due <= at) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(draw, wait);
  };

  const connect = () => {
    const from = boot ? `?${new URLSearchParams({ boot, since: last })}` : '';
    source = new EventSource(`/api/v1/events${from}`);
    source.addEventListener('hello', (event) => {
      const hello = JSON.parse(event.data);
      if (boot !== null && boot !== hello.boot) note('zdt was restarted: nothing was seen while it was down.');
      if (boot !== hello.boot) { last = 0; for (const one of rollouts.values()) one.over = true; }
      boot = hello.boot;
      link('live', 'live');
    });
    source.addEventListener('missed', (event) => {
      note(`${JSON.parse(event.data).missed} outputs were gone before this page could get them.`);
    });
    source.addEventListener('state', (event) => {
      state = JSON.parse(event.data);
      addUnderWay(state.under_way.slice().reverse());
      later(100);
    });
    source.addEventListener('output', (event) => {
      const output = JSON.parse(event.data);
      if (output.seq <= last) return;
      last = output.seq;
      if (output.kind === 'verdict') addVerdict(output);
      else if (output.kind === 'propagation') addPod(output);
      else if (output.kind === 'rollout') addRollout(output);
      later(200);
    });
    source.addEventListener('error', () => {
      const t = new Date();
      if (byId('link').className !== 'lost') link('lost', `no connection since ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}; trying again`);
      // After an answer that is no stream the browser gives up.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    });
  };
  draw();
  connect();
})();
