import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/index.js';
import { CHECKS, type CheckResult, runConformance } from '../../src/conform/index.js';

const INLINE = 'embedded:?inline=1';
const reference = readFileSync(new URL('../../docs/sdxi-1.0.md', import.meta.url), 'utf8');

const failures = (checks: readonly CheckResult[]) =>
  checks.filter(({ status }) => status === 'failed').map(({ id, reason }) => `${id}: ${reason}`);

describe('the conformance suite and the function of this package', () => {
  it.each(['embedded:', INLINE])('%s passes, and little is skipped', async (uri) => {
    const report = await runConformance(uri);
    expect(failures(report.checks)).toEqual([]);
    expect(report).toMatchObject({ target: uri, ok: true, failed: 0, deviations: 0 });
    expect(report.passed + report.skipped).toBe(CHECKS.length);
    const lacking = report.checks.filter(({ status, reason }) => status === 'skipped' && !reason?.includes('no virtual functions'));
    expect(lacking.length).toBeLessThan(30);
  });

  it.each([
    'maxContext=0',
    'maxContext=1',
    'maxContext=255',
    'opGroups=0',
    'maxRing=0',
    'dbStride=2',
    'maxBuffer=0',
    'maxErrorLog=1',
    'rkeyCap=0&maxAkey=0',
    'csCap=3&groupId=5',
    'maxContext=0&opGroups=0&maxBuffer=0&maxRing=0&vectors=2',
  ])('%s: passes, and asks for nothing that CAP0 and CAP1 do not offer', async (options) => {
    const report = await runConformance(`${INLINE}&${options}`);
    expect(failures(report.checks)).toEqual([]);
    expect(report.passed).toBeGreaterThan(300);
    for (const { status, reason } of report.checks) expect(Boolean(reason)).toBe(status !== 'passed');
  });

  it('a context number above 127, which needs a second level-1 table, is checked where there is one', async () => {
    const only = ['tables.entry-7f', 'load.l2-invalid'];
    const report = await runConformance(`${INLINE}&maxContext=255`, { only });
    expect(report.checks.map(({ status }) => status)).not.toContain('skipped');
  });

  it('a bus that is open already stays open, and the function is left in STOP', async () => {
    const bus = new InlineBus(INLINE);
    await runConformance(bus, { only: ['scenario'] });
    expect(bus.readRegister(0x100)).toBe(0n);
    await bus.close();
  });

  it('reports each check when it is done, in the order of the reference', async () => {
    const seen: string[] = [];
    const report = await runConformance(INLINE, { only: ['csb.*', 'reg'], onCheck: ({ id }) => seen.push(id) });
    expect(seen).toEqual(report.checks.map(({ id }) => id));
    expect(seen).toEqual(CHECKS.map(({ id }) => id).filter((id) => seen.includes(id)));
  });
});

describe('the checks themselves', () => {
  it('there are many, with ids that are stable, unique and plain', () => {
    expect(CHECKS.length).toBeGreaterThanOrEqual(220);
    expect(new Set(CHECKS.map(({ id }) => id)).size).toBe(CHECKS.length);
    for (const { id } of CHECKS) expect(id).toMatch(/^[a-z0-9]+([.-][a-z0-9]+)*$/);
  });

  it('a check that rests on a decision of confidence L or M is a decision', () => {
    const confidence = new Map([...reference.matchAll(/^\| (S-\d+) \|.*\| ([HML])\b[^|]*\|$/gm)].map(([, name, level]) => [name, level]));
    expect(confidence.size).toBeGreaterThanOrEqual(110);
    for (const { id, basis, kind } of CHECKS) {
      for (const [name] of basis.matchAll(/S-\d+/g)) {
        expect(confidence.has(name), `${id}: ${name}`).toBe(true);
        if (confidence.get(name) !== 'H') expect(kind, `${id} rests on ${name}`).toBe('decision');
      }
    }
  });

  it('every check says what demands it, and every section is one of the reference', () => {
    for (const { id, basis, section } of CHECKS) {
      expect(basis, id).toMatch(/\b(ref §\d|S-\d|O-\d|F-\d)/);
      expect(reference, section).toMatch(new RegExp(`^#{2,3} ${section.split(' ')[0].replace('.', '\\.')}\\.? `, 'm'));
    }
  });

  it('every obligation of ref §11.5 that a bus can show has a check', () => {
    const named = new Set(CHECKS.flatMap(({ basis }) => basis.match(/O-\d+/g) ?? []));
    const missing = Array.from({ length: 30 }, (_, i) => `O-${i + 1}`).filter((name) => !named.has(name));
    // 32-bit accesses are not for a bus; the stride is a default of this model, not a duty of others.
    expect(missing).toEqual(['O-23', 'O-26']);
  });

  it('every row of ref §13.6 that can be reached from outside has a check', () => {
    const named = new Set(CHECKS.flatMap(({ basis }) => [...basis.matchAll(/§13\.6 row (\d+)/g)].map(([, n]) => Number(n))));
    // Row 20 starts in GSV_ERROR, which nothing but fault injection reaches (S-91).
    expect(Array.from({ length: 20 }, (_, i) => i + 1).filter((n) => !named.has(n))).toEqual([20]);
  });

  it('S-103 is demanded of nobody', () => {
    expect(CHECKS.filter(({ basis }) => basis.includes('S-103'))).toEqual([]);
  });
});
