import { describe, expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/index.js';
import { type ConformanceReport, runConformance } from '../../src/conform/index.js';
import { AbortError, BusLostError } from '../../src/errors.js';
import { Access } from '../../src/memory/address-space.js';
import { Reg } from '../../src/spec/index.js';
import { broken, FOREIGN, misread, misreadOne } from './broken.js';

const failed = ({ checks }: ConformanceReport) => checks.filter(({ status }) => status === 'failed').map(({ id }) => id);
const reasonOf = ({ checks }: ConformanceReport, id: string) => checks.find((check) => check.id === id)?.reason;

describe('a function that is not right fails', () => {
  it('a doorbell region that drops everything: no completion, each wait bounded', async () => {
    const bus = broken(() => ({ writeDoorbell: () => {} }));
    const report = await runConformance(bus, { only: ['scenario', 'copy.*'], timeoutMs: 40 });
    expect(failed(report)).toEqual(expect.arrayContaining(['scenario.3', 'scenario.4', 'copy.scattered']));
    expect(reasonOf(report, 'scenario.8')).toMatch(/^no completion in context 1 .* within 40 ms/);
    expect(report.ok).toBe(false);
  });

  it('doorbells that only count when they grow (F-17): O-20', async () => {
    const highest = new Map<number, number>();
    const bus = broken((inner) => ({
      writeDoorbell: (offset, value) => {
        if (value > (highest.get(offset) ?? -1)) inner.writeDoorbell(offset, value);
        highest.set(offset, Math.max(value, highest.get(offset) ?? -1));
      },
    }));
    const report = await runConformance(bus, { only: ['ring.doorbell.*'], timeoutMs: 40 });
    expect(report.ok).toBe(false);
  });

  it.each([
    ['VERSION', 1n << 17n, 'version.major'],
    ['CTL2', 1n << 5n, 'ctl2.reserved'],
    ['CAP0', 1n << 31n, 'cap0.reserved'],
    ['ERR_STS', 1n << 1n, 'err-sts.zero'],
    ['CXT_L2', 1n << 40n, 'cxt-l2.value'],
    ['GRP_ENUM', 1n, 'grp-enum.probe'],
  ] as const)('a bit of %s that reads wrong is found', async (register, flip, id) => {
    expect(failed(await runConformance(misreadOne(register, flip), { only: ['2 Registers'], timeoutMs: 40 }))).toContain(id);
  });

  it('interrupts that are delivered twice (F-44)', async () => {
    const bus = broken((inner) => ({ interruptCount: (vector) => 2 * inner.interruptCount(vector) }));
    const report = await runConformance(bus, { only: ['5.5', 'log.interrupt'], timeoutMs: 40 });
    expect(failed(report)).toEqual(expect.arrayContaining(['intr.raises', 'intr.every-vector', 'log.interrupt', 'log.interrupt.edge']));
  });

  it('interrupts that are lost', async () => {
    const bus = broken(() => ({ interruptCount: () => 0 }));
    expect(failed(await runConformance(bus, { only: ['5.5'], timeoutMs: 40 }))).toContain('intr.raises');
  });

  it('access rights that nobody looks at', async () => {
    const bus = broken((inner) => ({ map: (request) => inner.map({ ...request, access: Access.READ_WRITE }) }));
    const report = await runConformance(bus, { only: ['access.*'], timeoutMs: 40 });
    expect(failed(report)).toEqual(['access.source-denied', 'access.target-denied']);
  });

  it('a mapping that is not made: the record that nobody expected is named', async () => {
    const bus = broken((inner) => ({ map: (request) => request.access !== Access.READ && inner.map(request) }));
    const report = await runConformance(bus, { only: ['tables.l2.read-only', 'write-index.read-only'], timeoutMs: 40 });
    expect(failed(report)).toEqual(['tables.l2.read-only', 'write-index.read-only']);
  });

  it('a mapping that stays when it was taken away', async () => {
    const bus = broken((inner) => ({ unmap: (iova, length, pasid) => length !== 4096 && inner.unmap(iova, length, pasid) }));
    expect(failed(await runConformance(bus, { only: ['access.unmapped-later'], timeoutMs: 40 }))).toEqual(['access.unmapped-later']);
  });

  it('a byte beside what was granted: every check looks at the guards', async () => {
    let bytes: Uint8Array = new Uint8Array();
    const bus = broken((inner) => ({
      map: (request) => {
        if (request.byteLength === undefined) bytes = request.region.bytes;
        inner.map(request);
      },
      writeDoorbell: (offset, value) => {
        // The 64 bytes before the first block, the level-2 table, are guards.
        bytes[4095] ^= 1;
        inner.writeDoorbell(offset, value);
      },
    }));
    const report = await runConformance(bus, { only: ['nop.completes'] });
    expect(reasonOf(report, 'nop.completes')).toBe('a guard byte changed, 1 bytes before the level-2 table');
  });

  it('a table that the function writes', async () => {
    let bytes: Uint8Array = new Uint8Array();
    const bus = broken((inner) => ({
      map: (request) => {
        if (request.byteLength === undefined) bytes = request.region.bytes;
        inner.map(request);
      },
      writeDoorbell: (offset, value) => {
        bytes[4096 + 500] ^= 4;
        inner.writeDoorbell(offset, value);
      },
    }));
    expect(reasonOf(await runConformance(bus, { only: ['nop.completes'] }), 'nop.completes')).toBe(
      'byte 500 of the level-2 table is 0x04, not 0x00',
    );
  });

  it('the function of another option is told apart: clearValid=off', async () => {
    const report = await runConformance('embedded:?inline=1&clearValid=off', { only: ['ring.vl-cleared'] });
    expect(reasonOf(report, 'ring.vl-cleared')).toMatch(/vl of slot 0 .*clearValid/);
  });
});

describe('requirements and decisions', () => {
  const foreign = () =>
    broken((inner) => ({
      uri: FOREIGN,
      readRegister: (offset) => (offset === Reg.CAP1 ? inner.readRegister(offset) | 0x20n : inner.readRegister(offset)),
    }));

  it('a decision that a foreign function has taken otherwise is a deviation, no failure', async () => {
    const report = await runConformance(foreign(), { only: ['cap1.*'] });
    expect(report).toMatchObject({ target: FOREIGN, ok: true, failed: 0, deviations: 1 });
    expect(failed(report)).toEqual(['cap1.rm']);
  });

  it('strict: it is a failure', async () => {
    expect(await runConformance(foreign(), { only: ['cap1.*'], strict: true })).toMatchObject({ ok: false, failed: 1, deviations: 0 });
  });

  it('embedded: it is a failure, the function is ours', async () => {
    expect(await runConformance(misreadOne('CAP1', 0x20n), { only: ['cap1.*'] })).toMatchObject({ ok: false, failed: 1, deviations: 0 });
  });

  it('a requirement is a failure for everybody', async () => {
    const bus = broken((inner) => ({
      uri: FOREIGN,
      readRegister: (offset) => (offset === Reg.CAP0 ? inner.readRegister(offset) | (1n << 19n) : inner.readRegister(offset)),
    }));
    expect(await runConformance(bus, { only: ['cap0.reserved'] })).toMatchObject({ ok: false, failed: 1, deviations: 0 });
  });
});

describe('a function that is not there', () => {
  it('registers of all ones: an error that says so, no check', async () => {
    await expect(runConformance(misread(() => 2n ** 64n - 1n))).rejects.toMatchObject({
      code: 'ERR_SDXI_FUNCTION',
      message: expect.stringContaining('does not answer'),
      hint: expect.stringContaining('all ones'),
    });
  });

  it('a function that cannot be stopped: an error that says so, no check', async () => {
    const bus = misread((offset, value) => (offset === Reg.STS0 ? 2n : value));
    await expect(runConformance(bus, { timeoutMs: 30 })).rejects.toMatchObject({
      code: 'ERR_SDXI_FUNCTION',
      message: expect.stringContaining('stays in state ACTIVE'),
    });
  });

  it('a function that hangs in the middle of its stop: the check fails, the rest is not run', async () => {
    let stuck = false;
    const bus = broken((inner) => ({
      readRegister: (offset) => (stuck && offset === Reg.STS0 ? 3n : inner.readRegister(offset)),
      writeDoorbell: (offset, value) => {
        inner.writeDoorbell(offset, value);
        stuck = true;
      },
    }));
    const report = await runConformance(bus, { only: ['nop.completes', 'copy.*'], timeoutMs: 30 });
    expect(report.checks[0]).toMatchObject({ status: 'failed', reason: expect.stringContaining('stays in state STOPG_SF') });
    expect(report.checks.slice(1).every(({ status, reason }) => status === 'skipped' && reason?.startsWith('not run'))).toBe(true);
    expect(report.ok).toBe(false);
  });

  it('a bus that is lost: the check fails, the rest is not run', async () => {
    let left = 500;
    const bus = broken((inner) => ({
      readRegister: (offset) => {
        if (--left < 0) throw new BusLostError('the device is gone');
        return inner.readRegister(offset);
      },
    }));
    const report = await runConformance(bus);
    expect(report.ok).toBe(false);
    expect(report.failed).toBe(1);
    expect(report.checks.at(-1)).toMatchObject({ status: 'skipped', reason: 'not run: the device is gone' });
  });

  it('time is up: the rest is not run, and the report is not ok', async () => {
    const report = await runConformance('embedded:?inline=1', { totalTimeoutMs: 20 });
    expect(report).toMatchObject({ ok: false, failed: 0 });
    expect(report.checks.at(-1)?.reason).toContain('longer than 20 ms');
  });

  it('an AbortSignal ends it', async () => {
    const controller = new AbortController();
    const run = runConformance('embedded:?inline=1', { signal: controller.signal, onCheck: () => controller.abort() });
    await expect(run).rejects.toBeInstanceOf(AbortError);
  });

  it('a closed bus is an error', async () => {
    const bus = new InlineBus();
    await bus.close();
    await expect(runConformance(bus)).rejects.toMatchObject({ code: 'ERR_SDXI_CLOSED' });
  });
});
