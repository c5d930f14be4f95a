import fc from 'fast-check';
import { it } from 'vitest';
import { setups } from './estate.js';
import { Lockstep } from './lockstep.js';
import { programs } from './program.js';
import { ReferenceFunction } from './reference-contexts.js';

it('stats', { timeout: 100000 }, () => {
  for (const large of [false, true]) {
    const count: Record<string, number> = {};
    const add = (k: string, n = 1) => {
      count[k] = (count[k] ?? 0) + n;
    };
    const P = ReferenceFunction.prototype as any;
    const orig: any = {};
    for (const m of [
      'run',
      'load',
      'begin',
      'finishStop',
      'requestStop',
      'startOne',
      'stopFunction',
      'stopWithError',
      'logStatus',
      'log',
      'beginStop',
    ]) {
      orig[m] = P[m];
      P[m] = function (...a: any[]) {
        add(m);
        if (m === 'log') add(`rec ${a[0].step}/${a[0].sub} re${a[1]} op${a[0].operand}`);
        if (m === 'run') add(`type ${a[2].readUInt16LE(2) & 0x7ff}/${a[2][1]}`);
        if (m === 'finishStop' && a[0].busy) add('finishStop busy');
        if (m === 'stopFunction') add('stopFunction busy', this.contexts.filter((c: any) => c.busy).length);
        return orig[m].apply(this, a);
      };
    }
    const L = Lockstep.prototype as any;
    const rs = L.resynchronize;
    L.resynchronize = function (...a: any[]) {
      add('resync');
      return rs.apply(this, a);
    };
    const N = 400;
    const n = large ? 2 : 3;
    for (const [s, e] of fc.sample(
      fc.tuple(setups({ contexts: n, large: large ? 2 : 0 }), programs({ contexts: n, large, events: large ? 40 : 50 })),
      N,
    )) {
      add('events', e.length);
      Lockstep.run(s, e);
    }
    for (const m in orig) P[m] = orig[m];
    L.resynchronize = rs;
    console.log(large, JSON.stringify(count, null, 0).replaceAll(',', '\n'));
  }
});
