/** Saving the function behind a bus, and restoring it behind another. Ref §10. */
import { describe, expect, it } from 'vitest';
import { Channel, TEXT_BYTES } from '../../src/bus/embedded/channel.js';
import { receiveSnapshot, SnapshotTransfer, sendSnapshot } from '../../src/bus/embedded/snapshot-transfer.js';
import { type Bus, canSnapshot, RecordingBus, type Snapshotting, snapshotting } from '../../src/bus/index.js';
import { type FunctionSnapshot, Reg } from '../../src/spec/index.js';
import { closing, EMBEDDED, thrown, wrap } from '../driver/rig.js';

describe.each(EMBEDDED)('snapshots over $name (ref §10)', ({ open }) => {
  const make = async (options?: string) => closing(await open(options)) as Bus & Snapshotting;

  it('ref §10 a function becomes that of another bus: the same registers, as JSON in between', async () => {
    const [one, other] = [await make(), await make()];
    one.writeRegister(Reg.CXT_L2, 0x1_2345_6000n);
    one.writeRegister(Reg.CTL2, 0x18_0007_8005n);
    one.writeRegister(Reg.ERR_RD, 2n ** 63n + 5n);
    const snapshot = one.snapshot();
    expect(snapshot.registers.CXT_L2).toBe('0x123456000');
    other.restore(JSON.parse(JSON.stringify(snapshot)));
    expect(other.snapshot()).toEqual(snapshot);
    for (const offset of Object.values(Reg)) expect(other.readRegister(offset)).toBe(one.readRegister(offset));
  });

  it('only in GSV_STOP, and the function says so', async () => {
    const bus = await make();
    const snapshot = bus.snapshot();
    bus.writeRegister(Reg.CTL0, 3n);
    expect(thrown(() => bus.snapshot())).toMatchObject({ code: 'ERR_SDXI_STATE', message: expect.stringContaining('not stopped') });
    expect(thrown(() => bus.restore(snapshot))).toMatchObject({ code: 'ERR_SDXI_STATE', hint: expect.stringContaining('STOP_SF') });
    expect(bus.readRegister(Reg.STS0)).toBe(2n);
  });

  it('what is refused is refused with its cause, and the function is as it was', async () => {
    const bus = await make();
    bus.writeRegister(Reg.CXT_L2, 0x6000n);
    const snapshot = bus.snapshot();
    const other = (await make('maxContext=7')).snapshot();
    for (const [bad, message] of [
      [{ ...snapshot, version: 9 }, /version 9 .*/],
      [{ ...snapshot, checksum: snapshot.checksum.replace(/./, (c) => (c === '0' ? '1' : '0')) }, /checksum/],
      [other, /another CAP1/],
      [undefined, /no snapshot/],
      [{ ...snapshot, version: 2, live: {} }, /in the middle of its work/],
      [{ ...snapshot, format: 'x'.repeat(10_000) }, /no snapshot/],
    ] as const) {
      expect(thrown(() => bus.restore(bad as unknown as FunctionSnapshot))).toMatchObject({
        code: 'ERR_SDXI_STATE',
        message: expect.stringMatching(message),
      });
      expect(bus.snapshot()).toEqual(snapshot);
    }
  });

  it('a closed bus says that it is closed', async () => {
    const bus = await make();
    const snapshot = bus.snapshot();
    await bus.close();
    expect(thrown(() => bus.snapshot()).code).toBe('ERR_SDXI_CLOSED');
    expect(thrown(() => bus.restore(snapshot)).code).toBe('ERR_SDXI_CLOSED');
  });

  it('a recording bus can what its bus can; one that cannot is refused by name', async () => {
    const bus = await make();
    const recording = new RecordingBus(bus);
    expect(canSnapshot(recording)).toBe(true);
    const able = snapshotting(recording);
    able.restore(able.snapshot());
    expect(recording.records).toEqual([{ kind: 'snapshot' }, { kind: 'restore' }]);
    const foreign = wrap(bus, { snapshot: undefined } as Partial<Bus>);
    expect([canSnapshot(foreign), canSnapshot(new RecordingBus(foreign))]).toEqual([false, false]);
    expect(thrown(() => snapshotting(foreign))).toMatchObject({
      code: 'ERR_SDXI_UNSUPPORTED',
      message: expect.stringContaining(bus.uri),
      hint: expect.stringContaining('driver.stop()'),
    });
  });
});

describe('snapshots on their way to the other thread', () => {
  it.each([10, TEXT_BYTES - 20, TEXT_BYTES, 3 * TEXT_BYTES, 100_000])('any length crosses in pieces: %i bytes', (length) => {
    const channel = new Channel({ maxContext: 0, vectors: 1 });
    const engine = new SnapshotTransfer();
    const snapshot = { checksum: 'ä'.repeat(length / 2) } as FunctionSnapshot;
    let requests = 0;
    let got: FunctionSnapshot | undefined;
    const count = (action: () => void) => () => {
      requests++;
      action();
    };
    expect(
      receiveSnapshot(
        channel,
        count(() => engine.send(channel, () => snapshot)),
      ),
    ).toEqual(snapshot);
    const receive = () =>
      engine.receive(channel, (whole) => {
        got = whole;
      });
    sendSnapshot(channel, snapshot, count(receive));
    expect(got).toEqual(snapshot);
    expect(requests).toBe(2 * Math.ceil(Buffer.byteLength(JSON.stringify(snapshot)) / TEXT_BYTES));
  });
});
