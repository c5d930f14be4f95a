import { readFileSync } from 'node:fs';
import { it } from 'vitest';
import { Lockstep } from './lockstep.js';

it('dbg', () => {
  const [setup, events] = new Function('return ' + readFileSync('/tmp/case.json', 'utf8'))();
  const l = new Lockstep(setup);
  for (const e of [...events, { kind: 'drain' }]) {
    console.log(JSON.stringify(e, (k, v) => (typeof v === 'bigint' ? v.toString() : v)).slice(0, 200));
    l.apply(e);
    for (const c of l.reference.contexts.slice(0, setup.contexts.length))
      console.log(
        '  model',
        c.number,
        'run',
        c.running,
        'idle',
        c.idle,
        'rung',
        c.rung,
        'ri',
        c.index,
        'stop',
        c.stop,
        'busy',
        !!c.busy,
        '| real',
        JSON.stringify((l as any).inside(c.number), ['queued', 'rung', 'running', 'work', 'idle', 'stop', 'readIndex']),
      );
  }
});
