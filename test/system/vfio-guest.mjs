// Runs in the guest, beside the package: what a program does to a function through vfio:, as JSON.
import { openBus } from 'sdxi/bus';
import { SdxiDriver } from 'sdxi/driver';

const uri = process.argv[2];
const HOLE = 0x30_0000_0000;

/**
 * What an error says, without its prose.
 * @param {unknown} error
 */
const facts = (error) => {
  const { code, hint, fields } = /** @type {import('sdxi').SdxiError} */ (error);
  return { code, hint, ...fields };
};
/** @param {() => void} call */
const refused = (call) => {
  try {
    call();
    return 'nothing was refused';
  } catch (error) {
    return facts(error);
  }
};

const bus = await openBus(uri);
/** @type {Record<string, unknown>} */
const result = { details: bus.details, vectors: bus.vectors };
result.secondOpening = await openBus(uri).then(() => 'opened', facts);

const driver = await SdxiDriver.open(bus);
const context = await driver.createContext({ completion: 'interrupt' });
/** @param {(batch: import('sdxi/driver').DescriptorBatch) => void} describe */
const work = async (describe) => {
  const batch = context.begin(1, { bytes: 4096 });
  describe(batch);
  await context.limit(batch.submit(), { timeoutMs: 10_000 });
};

// An address that was never mapped: the copy ends in the specified error, and no byte of what is mapped changes.
const buffer = driver.allocate(1 << 16, 4096);
for (let i = 0; i < buffer.byteLength; i++) buffer.bytes[i] = (i * 31 + 7) & 0xff;
const before = Buffer.from(buffer.bytes);
result.toHole = await work((batch) => batch.copy(4096, buffer.iova, HOLE)).then(() => 'copied', facts);
await context.recover();
result.fromHole = await work((batch) => batch.copy(4096, HOLE, buffer.iova)).then(() => 'copied', facts);
await context.recover();
result.untouched = buffer.bytes.equals(before);

// A context that was interrupted by an error works on.
await work((batch) => batch.copy(4096, buffer.iova, buffer.iova + 8192));
result.copied = buffer.bytes.subarray(8192, 12288).equals(before.subarray(0, 4096));

// The completion block may be seen first.
const vector = context.shape.vector ?? 0;
await bus.wait(() => bus.interruptCount(vector) > 0, { what: 'an interrupt', timeoutMs: 10_000, vector, mode: 'interrupt' });
result.interrupts = bus.interruptCount(vector);

// Addresses that the IOMMU does not have: beyond its width, and where interrupts go.
const region = driver.regions[0];
result.tooHigh = refused(() => bus.map({ iova: 2 ** 50, region, byteLength: 4096, access: 3 }));
result.msi = refused(() => bus.map({ iova: 0xfee0_0000, region, byteLength: 4096, access: 3 }));
result.pasid = refused(() => bus.map({ iova: 2 ** 34, region, byteLength: 4096, access: 3, pasid: 1 }));

// A function-level reset, and back.
bus.reset();
result.stateAfterReset = driver.state();
await driver.recover();
await work((batch) => batch.copy(4096, buffer.iova, buffer.iova + 16384));
result.copiedAfterReset = buffer.bytes.subarray(16384, 20480).equals(before.subarray(0, 4096));

await driver.close();
console.log(JSON.stringify(result));
