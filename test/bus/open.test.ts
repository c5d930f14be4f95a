import { describe, expect, it } from 'vitest';
import { EmbeddedBus, InlineBus, listFunctions, openBus } from '../../src/bus/index.js';
import { Reg } from '../../src/spec/index.js';
import { startServer } from '../serve/rig.js';

describe('openBus', () => {
  it.each([
    ['embedded:', EmbeddedBus],
    ['embedded:?', EmbeddedBus],
    ['embedded:?inline=0', EmbeddedBus],
    ['embedded:?inline=1', InlineBus],
    ['embedded:?maxContext=3&inline=true', InlineBus],
  ])('%s', async (uri, kind) => {
    const bus = await openBus(uri);
    expect(bus).toBeInstanceOf(kind);
    expect(bus.uri).toBe(uri);
    expect(bus.readRegister(Reg.VERSION)).toBe(0x10000n);
    await bus.close();
  });

  it('the URI wins over the options, and the options over the default', async () => {
    const bus = await openBus('embedded:?inline=1&maxContext=7', { config: { maxContext: 3, sfunc: 9 }, vectors: 5 });
    expect((bus.readRegister(Reg.CAP1) >> 16n) & 0xffffn).toBe(7n);
    expect(bus.readRegister(Reg.CAP0) & 0xffffn).toBe(9n);
    expect(bus.vectors).toBe(5);
  });

  it.each([
    ['vfio-user:/nowhere/x.sock', 'ERR_SDXI_SYSTEM', /no such socket/],
    ['vfio:ffff:ff:1f.7', 'ERR_SDXI_URI', /no PCI function ffff:ff:1f.7/],
    ['vfio:card', 'ERR_SDXI_URI', /not the URI/],
    ['vfio:c4:00.1?nonsense=1', 'ERR_SDXI_ARGUMENT', /nonsense/],
    ['chardev:/dev/sdxi0', 'ERR_SDXI_UNSUPPORTED', /no chardev bus/],
    ['toString:', 'ERR_SDXI_URI', /which bus/],
    ['pci:0000', 'ERR_SDXI_URI', /which bus/],
    ['embedded', 'ERR_SDXI_URI', /which bus/],
    ['', 'ERR_SDXI_URI', /which bus/],
    ['embedded:maxContext=3', 'ERR_SDXI_URI', /not the URI/],
    ['embedded:?maxContext=65536', 'ERR_SDXI_ARGUMENT', /maxContext/],
    ['embedded:?maxContext=-1', 'ERR_SDXI_ARGUMENT', /maxContext/],
    ['embedded:?nonsense=1', 'ERR_SDXI_ARGUMENT', /nonsense/],
    ['embedded:?inline=maybe', 'ERR_SDXI_ARGUMENT', /inline/],
    ['embedded:?vectors=0', 'ERR_SDXI_ARGUMENT', /vectors/],
    ['embedded:?vectors=2049', 'ERR_SDXI_ARGUMENT', /vectors/],
    ['embedded:?registerTimeoutMs=soon', 'ERR_SDXI_ARGUMENT', /registerTimeoutMs/],
  ])('refuses %j', async (uri, code, message) => {
    await expect(openBus(uri)).rejects.toMatchObject({ code, message: expect.stringMatching(message), hint: expect.any(String) });
  });

  it('the path of a socket alone is answered with its URI', async () => {
    const rig = await startServer();
    const error = await openBus(rig.path).catch((e) => e);
    await rig.close();
    expect(error).toMatchObject({ code: 'ERR_SDXI_URI', hint: `a served function is vfio-user:${rig.path}` });
  });

  it('an unknown option is answered with all valid ones', async () => {
    const error = await openBus('embedded:?nonsense=1').catch((e) => e);
    expect(error.hint).toMatch(/maxContext.*vectors/);
  });

  it('hardware has none of the options of embedded functions', async () => {
    await expect(openBus('vfio:ffff:ff:1f.7', { vectors: 4 })).rejects.toMatchObject({
      code: 'ERR_SDXI_ARGUMENT',
      hint: expect.any(String),
    });
  });

  it('a thread that cannot start is an error, not a hang', async () => {
    await expect(openBus('embedded:', { startTimeoutMs: 1 })).rejects.toMatchObject({ code: 'ERR_SDXI_SYSTEM', hint: expect.any(String) });
  });

  it('lists what there is', () => {
    expect(listFunctions()).toEqual([{ uri: 'embedded:', description: expect.any(String) }]);
  });
});
