import type { Context, SdxiDriver } from '../driver/index.js';
import { ContextState, FunctionState, nameOf } from '../spec/codes.js';

/** A function and its contexts as plain data, named as accel-config names things: `sdxi0`, `sdxi0/cxt1`. */
export function describe(driver: SdxiDriver): Record<string, unknown> {
  const { bus, name, capabilities, errorLog } = driver;
  return {
    name,
    uri: bus.uri,
    state: nameOf(FunctionState, driver.state()),
    vectors: bus.vectors,
    ...bus.details,
    ...capabilities,
    errors: { records: errorLog.history.length, ...errorLog.lost },
    contexts: [...driver.contexts.values()].map(describeContext),
  };
}

function describeContext(context: Context): Record<string, unknown> {
  const { name, ring, akeys, shape, inFlight } = context;
  return {
    name,
    number: context.number,
    state: nameOf(ContextState, context.state()),
    ringEntries: ring.entries,
    readIndex: ring.readIndex,
    writeIndex: ring.writeIndex,
    akeys: akeys.entries,
    maxBufferBytes: context.maxBufferBytes,
    vector: shape.vector ?? null,
    completion: shape.completion,
    inFlight: inFlight.descriptors,
  };
}
