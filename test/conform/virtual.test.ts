/** Checks of a physical function with its virtual ones, and of functions without. */
import { expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/index.js';
import { CHECKS, runConformance } from '../../src/conform/index.js';
import { broken } from './broken.js';

const ONLY = ['vf.*', 'admin.vf'];
const needing = CHECKS.filter(({ needs }) => needs.includes('vfs')).map(({ id }) => id);

it('S-96, S-113 a PF with VFs passes, and what only one without can be asked is skipped', async () => {
  const { checks, ok } = await runConformance('embedded:?inline=1&vfs=2', { only: ONLY });
  expect(ok).toBe(true);
  expect(checks.filter(({ status }) => status === 'passed').map(({ id }) => id)).toEqual(needing);
  expect(checks.find(({ id }) => id === 'admin.vf')?.reason).toBe('the function has virtual functions (2)');
});

it.each(['embedded:?inline=1', 'embedded:?inline=1&vfs=2#vf2'])(
  'without VFs there is one check, and the others say why not: %s',
  async (uri) => {
    const { checks, passed, failed } = await runConformance(uri, { only: ONLY });
    expect([passed, failed]).toEqual([1, 0]);
    for (const { id, reason } of checks) if (id !== 'admin.vf') expect(reason).toContain('no virtual functions');
  },
);

it('VFs that are found wrong: one memory for all, and no reset with the PF', async () => {
  const uri = 'embedded:?inline=1&vfs=1';
  const shared = broken(
    (bus) => ({
      map: (request) => {
        bus.map(request);
        if (request.iova < 0x3_0000_0000 && request.iova >= 0x2_0000_0000) bus.virtualFunctions[0].map(request);
      },
    }),
    { uri },
  );
  const report = await runConformance(shared, { only: ['vf.isolation.*'], timeoutMs: 40 });
  expect(report.checks.filter(({ status }) => status === 'failed').map(({ id }) => id)).toContain('vf.isolation.vf-read');
  const unreset = broken((bus) => ({ reset: () => bus.virtualFunctions[0].readRegister(0) }), { uri });
  const again = await runConformance(unreset, { only: ['vf.isolation.reset'], timeoutMs: 40 });
  expect(again.failed).toBe(1);
});

it('all functions are left in STOP', async () => {
  const bus = new InlineBus('embedded:?inline=1&vfs=2');
  await runConformance(bus, { only: ['vf.start', 'vf.isolation.*'] });
  expect([bus, ...bus.virtualFunctions].map(({ fn }) => fn.state)).toEqual([0, 0, 0]);
});
