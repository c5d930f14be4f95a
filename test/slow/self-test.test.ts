/** `sdxi conform --self-test`: every wrong function is caught. */
import { expect, it } from 'vitest';
import { type Mutant, runSelfTest, type SelfTestReport } from '../../src/conform/index.js';
import { sdxi, sdxiJson } from '../cli/run.js';

const LIMIT_MS = 300_000;

it('sdxi conform --self-test --json: at least 60 mutants, all caught', { timeout: LIMIT_MS }, async () => {
  const { code, json } = await sdxiJson<SelfTestReport>(['conform', '--self-test'], { limitMs: LIMIT_MS });
  expect(json.escaped).toEqual([]);
  expect(json.mutants).toBeGreaterThanOrEqual(60);
  expect(json.caught).toBe(json.mutants);
  expect(json.results.every(({ caughtBy }) => caughtBy.length > 0)).toBe(true);
  expect(code).toBe(0);
});

it('it takes no function', async () => {
  const { code, stderr } = await sdxi(['conform', '--self-test', 'embedded:']);
  expect(code).toBe(2);
  expect(stderr).toContain('hint:');
});

it('a function with nothing wrong escapes', { timeout: LIMIT_MS }, async () => {
  const right: Mutant = {
    id: 'right',
    what: 'nothing',
    basis: '–',
    find: 'const IMMEDIATE = 24;',
    replace: 'const IMMEDIATE = 24;',
    likely: ['wrt-imm'],
  };
  const report = await runSelfTest({ mutants: [right] });
  expect(report).toMatchObject({ mutants: 1, caught: 0, escaped: ['right'], ok: false });
});
