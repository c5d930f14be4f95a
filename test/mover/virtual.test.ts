/** A mover with virtual functions: brought up with their physical one, and at work when they are named. */
import { describe, expect, it } from 'vitest';
import { EmbeddedBus, openBus } from '../../src/bus/index.js';
import { SdxiDriver } from '../../src/driver/index.js';
import { ContextState, encodeCopy } from '../../src/spec/index.js';
import { EMBEDDED, moverFixture, pattern, rejection } from './rig.js';

const open = moverFixture();

describe.each(EMBEDDED)('virtual functions, $name', ({ uri }) => {
  const withVfs = (options: string) => `${uri}${uri.includes('?') ? '&' : '?'}${options}`;

  it('ref §10 they are named behind their physical one, and work when they are asked for', async () => {
    const mover = await open(withVfs('vfs=4'));
    const [pf, ...vfs] = mover.functions;
    expect(vfs.map(({ name }) => name)).toEqual([1, 2, 3, 4].map((n) => `${pf.name}/vf${n}`));
    expect(vfs.map(({ uri: own }) => own)).toEqual([1, 2, 3, 4].map((n) => `${withVfs('vfs=4')}#vf${n}`));
    expect(mover.functions.map(({ capabilities: { vf, sfunc } }) => [vf, sfunc])).toEqual([0, 1, 2, 3, 4].map((n) => [n > 0, n + 1]));
    const [from, to] = [mover.alloc(1 << 20), mover.alloc(1 << 20)];
    pattern(from);
    await mover.copy(from, to);
    expect(mover.functions.map(({ stats }) => stats.requests)).toEqual([1, 0, 0, 0, 0]);
    for (const { name } of vfs) {
      to.fill(0);
      await mover.copy(from, to, { function: name });
      expect(to.equals(from)).toBe(true);
    }
    await mover.batch([{ op: 'fill', destination: to, value: 5 }], { function: vfs[1].name });
    expect(mover.functions.map(({ stats }) => stats.requests)).toEqual([1, 1, 2, 1, 1]);
    const listed = mover.info().functions as { name: string; vf: boolean; contexts: { name: string }[] }[];
    expect(listed.map(({ name }) => name)).toEqual(mover.functions.map(({ name }) => name));
    expect(listed[2].contexts[1].name).toBe(`${pf.name}/vf2/cxt1`);
  });

  it('S-118 they are suspended and resumed with their physical one', async () => {
    const mover = await open(withVfs('vfs=1'));
    const [from, to] = [mover.alloc(4096), mover.alloc(4096)];
    pattern(from);
    await mover.suspend();
    expect((mover.info().functions as { state: string }[]).map(({ state }) => state)).toEqual(['STOP', 'STOP']);
    const copy = mover.copy(from, to, { function: mover.functions[1].name });
    await mover.resume();
    await copy;
    expect(to.equals(from)).toBe(true);
  });

  it('one alone by its URI', async () => {
    const mover = await open(withVfs('vfs=4#vf3'));
    expect(mover.functions.map(({ capabilities: { vf, sfunc } }) => [vf, sfunc])).toEqual([[true, 4]]);
    const [from, to] = [mover.alloc(4096), mover.alloc(4096)];
    pattern(from);
    await mover.copy(from, to);
    expect(to.equals(from)).toBe(true);
  });
});

describe('virtual functions that a mover cannot have', () => {
  it('a name that no function has, and more functions than a mover takes', async () => {
    const mover = await open('embedded:?inline=1&vfs=1');
    const [pf] = mover.functions;
    const buffer = mover.alloc(64);
    const error = await rejection(mover.fill(buffer, 0, { function: 'sdxi9/vf1' }));
    expect(error).toMatchObject({ code: 'ERR_SDXI_ARGUMENT', hint: `it has ${pf.name}, ${pf.name}/vf1` });
    expect(await rejection(open('embedded:?inline=1&vfs=64'))).toMatchObject({ code: 'ERR_SDXI_ARGUMENT', fields: { vfs: 64 } });
  });
});

describe('administration of virtual functions by the driver of the physical one (S-55)', () => {
  it('S-55 stops, starts and updates contexts of a VF; what the function refuses is an error', async () => {
    const bus = await EmbeddedBus.open('embedded:?vfs=2');
    await using pf = await SdxiDriver.open(bus, { adminTimeoutMs: 5000 });
    const refused = await rejection(pf.admin.stop(1, { vf: 1 }));
    expect(refused).toMatchObject({ code: 'ERR_SDXI_CONTEXT', fields: { step: 'CXT_L2' } });
    await using vf = await SdxiDriver.open(bus.virtualFunctions[0], { adminTimeoutMs: 5000 });
    const context = await vf.createContext();
    const { admin } = pf;
    await admin.stop(1, { vf: 1 });
    expect(context.state()).toBe(ContextState.STOP_SW);
    await admin.start(1, { vf: 1, resume: true });
    expect(context.state()).toBe(ContextState.RUN);
    await admin.updateContexts(1, { vf: 1, l1: true });
    await admin.updateKeys(1, { keyFirst: 0, keyLast: 255 }, { vf: 1 });
    await admin.updateRemoteKeys({ keyFirst: 0 }, { vf: 1 });
    await admin.updateFunction({ vf: 1 });
    const before = bus.virtualFunctions[0].interruptCount(2);
    await admin.interrupt(2, { vf: 1 });
    expect([bus.virtualFunctions[0].interruptCount(2) - before, bus.interruptCount(2)]).toEqual([1, 0]);
    expect(vf.errorLog.history).toEqual([]);
  });

  it.each(EMBEDDED)('work of a VF that is in flight when the PF is closed rejects: $name', async ({ uri }) => {
    const bus = await openBus(`${uri}${uri.includes('?') ? '&' : '?'}vfs=1`);
    const pf = await SdxiDriver.open(bus, { adminTimeoutMs: 5000 });
    const vf = await SdxiDriver.open(bus.virtualFunctions[0], { adminTimeoutMs: 5000 });
    const context = await vf.createContext();
    const [from, to] = [vf.allocate(2 ** 26), vf.allocate(2 ** 26)];
    const copies = Array.from({ length: 16 }, () => {
      const batch = context.begin(1);
      batch.write((...at) => encodeCopy(...at, 2 ** 26, 0, 0, from.iova, to.iova));
      return rejection(context.limit(batch.submit(), { what: 'a copy', timeoutMs: 10_000 }));
    });
    await pf.close();
    expect((await copies[15]).code).toBe('ERR_SDXI_CLOSED');
    await Promise.allSettled(copies);
    await vf.close();
  });
});
