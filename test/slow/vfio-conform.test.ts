import { expect, it } from 'vitest';
import { VfioBus } from '../../src/bus/index.js';
import { runConformance } from '../../src/conform/index.js';
import { ModelHost } from '../bus/vfio/model.js';

it('the conformance suite passes on a vfio: bus over a model of the kernel', async () => {
  const host = new ModelHost();
  const bus = await VfioBus.open('vfio:0000:c4:00.1', host);
  try {
    const report = await runConformance(bus);
    expect(report.checks.filter(({ status }) => status === 'failed')).toEqual([]);
    expect(report.ok).toBe(true);
  } finally {
    await bus.close();
    await host.end();
  }
});
