import { describe, expect, it } from 'vitest';
import { type Bus, type BusRecord, InlineBus, RecordingBus } from '../../src/bus/index.js';
import { SdxiDriver } from '../../src/driver/index.js';
import { ContextState, FunctionRequest, FunctionState, Reg } from '../../src/spec/index.js';
import { BUSES, driverFixture, rejection, wrap } from './rig.js';

const NAMES = new Map(Object.entries(Reg).map(([name, offset]) => [offset as number, name]));

/** Registers and doorbells only, as text: `CTL2 <- 0x…`, `CAP0 ->`. */
function sequence(records: readonly BusRecord[]): string[] {
  return records.flatMap((record) => {
    if (record.kind === 'readRegister') return [`${NAMES.get(record.offset)} ->`];
    if (record.kind === 'writeRegister') return [`${NAMES.get(record.offset)} <- 0x${record.value.toString(16)}`];
    if (record.kind === 'writeDoorbell') return [`doorbell ${record.offset / 4096} <- ${record.value}`];
    return [];
  });
}

describe.each(BUSES)('activation over $name', ({ open }) => {
  const start = driverFixture();

  it('ref §3.4: exactly the registers of the specification, in its order', async () => {
    const bus = new RecordingBus(await open('groupId=7&sfunc=0x801'));
    const driver = await start(bus);
    const l2 = driver.tables.level2.iova;
    const log = sequence(bus.records).find((line) => line.startsWith('ERR_CFG <- 0x') && line !== 'ERR_CFG <- 0x0') as string;
    expect(sequence(bus.records)).toEqual([
      // (pre) STOP is ensured; CTL0 cleared but for the group; VERSION
      'STS0 ->',
      'CTL0 ->',
      'CTL0 <- 0x700000000',
      'VERSION ->',
      // 1.a, 1.b
      'CAP0 ->',
      'CAP1 ->',
      'CTL2 <- 0x18003f800b',
      // 2.c
      `CXT_L2 <- 0x${l2.toString(16)}`,
      // 7, as in ref §8.4
      'ERR_CFG <- 0x0',
      'ERR_STS <- 0xb',
      'ERR_CTL <- 0x1',
      'ERR_WRT <- 0x0',
      'ERR_RD <- 0x0',
      log,
      // 9
      'CTL0 ->',
      'CTL0 <- 0x700000013',
      'STS0 ->',
      // 10.b
      'doorbell 0 <- 0',
    ]);
    expect(BigInt(log.slice('ERR_CFG <- '.length)) & 0xfffn).toBe(3n);
  });

  it('ref §3.4 step 4: context 0 stands in memory, RUN, when the function becomes ACTIVE', async () => {
    let state = -1;
    const bus = await open();
    const seen = wrap(bus, {
      writeRegister: (offset, value) => {
        if (offset === Reg.CTL0 && (value & 3n) === BigInt(FunctionRequest.ACTIVE)) state = contextZero().state();
        bus.writeRegister(offset, value);
      },
    });
    let opened: SdxiDriver | undefined;
    const contextZero = () => (opened as SdxiDriver).contexts.get(0) as NonNullable<ReturnType<SdxiDriver['contexts']['get']>>;
    // The driver is not returned yet when this is looked at, so it is caught at its first use of the bus.
    const proto = SdxiDriver.prototype as unknown as { bringUp(...args: unknown[]): Promise<void> };
    const { bringUp } = proto;
    proto.bringUp = function (this: SdxiDriver, ...args) {
      opened = this;
      return bringUp.apply(this, args);
    };
    try {
      await start(seen);
    } finally {
      proto.bringUp = bringUp;
    }
    expect(state).toBe(ContextState.RUN);
  });

  it('decodes the capabilities, and asks in CTL2 for no more than it wants', async () => {
    const bus = await open('sfunc=0x801&maxContext=40&dbStride=2&maxRing=3&maxAkey=4');
    const driver = await start(bus, { limits: { maxContext: 5, maxBuffer: 2, opGroups: 0x10 } });
    expect(driver.capabilities).toMatchObject({
      version: '1.0',
      sfunc: 0x801,
      doorbellStrideBytes: 16384,
      maxRingEntries: 8192,
      maxAkeys: 4096,
      maxContext: 5,
      maxBufferBytes: 8 * 2 ** 20,
      opGroups: 0x10,
    });
    expect(bus.readRegister(Reg.CTL2)).toBe(0x10_0005_4002n);
    expect(driver.state()).toBe(FunctionState.ACTIVE);
    for (let n = 1; n <= 5; n++) expect((await driver.createContext()).number).toBe(n);
    expect((await rejection(driver.createContext())).code).toBe('ERR_SDXI_RESOURCE');
  });

  it('a function that another driver left ACTIVE is stopped softly first (ref §3.5)', async () => {
    const bus = await open();
    bus.writeRegister(Reg.CTL0, 3n);
    const driver = await start(new RecordingBus(bus));
    const recorded = sequence((driver.bus as RecordingBus).records);
    expect(recorded.slice(0, 3)).toEqual(['STS0 ->', 'CTL0 ->', 'CTL0 <- 0x1']);
    expect(driver.state()).toBe(FunctionState.ACTIVE);
  });

  it('closing stops the function, switches the log off and leaves STOP', async () => {
    const bus = await open();
    const recorder = new RecordingBus(bus);
    const driver = await SdxiDriver.open(recorder);
    await driver.createContext();
    recorder.clear();
    await driver.close();
    await driver.close();
    const lines = sequence(recorder.records);
    expect(lines.slice(0, 3)).toEqual(['STS0 ->', 'CTL0 ->', 'CTL0 <- 0x11']);
    expect(lines.at(-1)).toBe('ERR_CFG <- 0x0');
    const kinds = recorder.records.map(({ kind }) => kind);
    expect(kinds.indexOf('unmap')).toBeGreaterThan(kinds.lastIndexOf('writeRegister'));
    expect(kinds.at(-1)).toBe('close');
  });
});

describe('activation of functions that misbehave', () => {
  const start = driverFixture();
  const inline = () => new InlineBus();
  /** A function whose STS0 the test makes up. */
  const withState = (bus: Bus, state: (real: bigint) => bigint) =>
    wrap(bus, { readRegister: (offset) => (offset === Reg.STS0 ? state(bus.readRegister(offset)) : bus.readRegister(offset)) });

  it.each([6n, 7n])('F-34: state %s does not exist: FunctionError, no loop', async (state) => {
    const error = await rejection(SdxiDriver.open(withState(inline(), () => state)));
    expect(error).toMatchObject({ code: 'ERR_SDXI_FUNCTION', name: 'FunctionError' });
  });

  it('F-49: a device that is gone reads all ones: FunctionError', async () => {
    const bus = inline();
    const error = await rejection(SdxiDriver.open(wrap(bus, { readRegister: () => 2n ** 64n - 1n })));
    expect(error.code).toBe('ERR_SDXI_FUNCTION');
  });

  it('F-9: a soft stop that never ends is followed by a hard one', async () => {
    const bus = inline();
    bus.writeRegister(Reg.CTL0, 3n);
    let hard = false;
    const stuck = wrap(bus, {
      readRegister: (offset) => (offset === Reg.STS0 && !hard ? 3n : bus.readRegister(offset)),
      writeRegister: (offset, value) => {
        if (offset === Reg.CTL0 && (value & 3n) === 2n) hard = true;
        bus.writeRegister(offset, value);
      },
    });
    const driver = await start(stuck, { adminTimeoutMs: 50 });
    expect(hard).toBe(true);
    expect(driver.state()).toBe(FunctionState.ACTIVE);
  });

  it('F-10: activation that takes for ever times out, and everything is given back', async () => {
    const bus = inline();
    let asked = false;
    let unmapped = 0;
    const slow = wrap(bus, {
      readRegister: (offset) => (offset === Reg.STS0 && asked ? 1n : bus.readRegister(offset)),
      writeRegister: (offset, value) => {
        asked ||= offset === Reg.CTL0 && (value & 3n) === 3n;
        bus.writeRegister(offset, value);
      },
      unmap: () => {
        unmapped++;
      },
    });
    const error = await rejection(SdxiDriver.open(slow, { adminTimeoutMs: 30 }));
    expect(error.code).toBe('ERR_SDXI_TIMEOUT');
    expect(unmapped).toBeGreaterThan(0);
    expect(() => bus.readRegister(Reg.STS0)).toThrow(/closed/);
  });

  it('ref §3.5: ERROR is left by RESET before anything else', async () => {
    const bus = inline();
    let failed = true;
    const requests: bigint[] = [];
    const broken = wrap(bus, {
      readRegister: (offset) => (offset === Reg.STS0 && failed ? 5n : bus.readRegister(offset)),
      writeRegister: (offset, value) => {
        if (offset === Reg.CTL0) {
          requests.push(value & 3n);
          if ((value & 3n) === 0n) failed = false;
        }
        bus.writeRegister(offset, value);
      },
    });
    await start(broken);
    expect(requests).toEqual([0n, 0n, 3n]);
  });

  it('a version that is not 1.x is refused', async () => {
    const bus = inline();
    const future = wrap(bus, { readRegister: (offset) => (offset === Reg.VERSION ? 0x20000n : bus.readRegister(offset)) });
    expect((await rejection(SdxiDriver.open(future))).code).toBe('ERR_SDXI_UNSUPPORTED');
  });

  it('ref §2.3: activation that ends in ERROR is a FunctionError', async () => {
    const bus = inline();
    let asked = false;
    const failing = wrap(bus, {
      readRegister: (offset) => (offset === Reg.STS0 && asked ? 5n : bus.readRegister(offset)),
      writeRegister: (offset, value) => {
        if (offset === Reg.CTL0) asked = (value & 3n) === 3n;
        bus.writeRegister(offset, value);
      },
    });
    expect(await rejection(SdxiDriver.open(failing))).toMatchObject({ code: 'ERR_SDXI_FUNCTION', fields: { state: 'ERROR' } });
  });

  it('a signal ends the opening', async () => {
    const bus = inline();
    bus.writeRegister(Reg.CTL0, 3n);
    const stuck = withState(bus, (real) => (real === 2n ? 2n : 3n));
    const error = await rejection(SdxiDriver.open(stuck, { signal: AbortSignal.timeout(20), adminTimeoutMs: 200 }));
    expect(error.code).toBe('ERR_SDXI_ABORTED');
  });
});
