import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CHECKS, type Check, type ConformanceReport, type ModelOption, runConformance } from '../../src/conform/index.js';

const INLINE = 'embedded:?inline=1';
const reference = readFileSync(new URL('../../docs/sdxi-1.0.md', import.meta.url), 'utf8');

/** An option that no capability shows: what depends on it is skipped or not, by what the bus reaches. */
const VFS = 'vfs';
const depends = ({ options, needs }: Check, option: ModelOption | typeof VFS): boolean =>
  option === VFS ? needs.includes('vfs') || needs.includes('noVfs') : options.includes(option);

/** Options of ref §14.3, with what they can be set to instead of the default. */
const OPTIONS: [option: ModelOption | typeof VFS, values: string[]][] = [
  ['initDelay', ['3']],
  ['cache', ['start', 'sticky']],
  ['readIndex', ['early']],
  ['reorder', ['on']],
  ['clearValid', ['off']],
  ['errlog', ['pagesMinus1']],
  ['strictReserved', ['on']],
  ['strictDoorbell', ['on']],
  ['ignoreChain', ['on']],
  ['vendorInfo', ['on']],
  ['pollInvalid', ['on']],
  ['qos', ['on']],
  [VFS, ['4']],
];

describe('options that ref §14.3 leaves to a function', () => {
  let baseline: Promise<ConformanceReport> | undefined;

  it.each(OPTIONS)('%s: exactly the checks that declare it change, and their reasons name it', async (option, values) => {
    baseline ??= runConformance(INLINE);
    const { checks: before } = await baseline;
    const changed = new Set<string>();
    for (const value of values) {
      const { checks } = await runConformance(`${INLINE}&${option}=${value}`, { timeoutMs: 500 });
      for (const [i, { id, status, reason }] of checks.entries()) {
        if (status === before[i].status) continue;
        changed.add(id);
        if (status === 'failed') expect(reason).toContain(option);
      }
    }
    expect([...changed].sort()).toEqual(
      CHECKS.filter((check) => depends(check, option))
        .map(({ id }) => id)
        .sort(),
    );
  });

  it.each(['embedded:?inline=1&vfs=4', 'embedded:?vfs=4', 'embedded:?inline=1&vfs=4#vf2', 'embedded:?vfs=4#vf4'])(
    'S-113 %s passes: a PF with its VFs, and a VF',
    async (uri) => {
      const { ok, checks } = await runConformance(uri);
      expect(checks.filter(({ status }) => status === 'failed')).toEqual([]);
      expect(ok).toBe(true);
    },
  );

  it('all options of ref §14.3 are known here', () => {
    const table = reference.slice(reference.indexOf('### 14.3'), reference.indexOf('## 15'));
    const named = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name).filter((name) => name !== 'seed'); // chooses among the orders of reorder
    expect(named.sort()).toEqual(OPTIONS.map(([name]) => name).sort());
  });
});
