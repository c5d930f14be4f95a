import { createHash } from 'node:crypto';
import { SdxiError } from '../errors.js';
import { type FunctionSnapshot, FunctionState, LIVE_SNAPSHOT_VERSION, type LiveState, Reg, SNAPSHOT_VERSION } from '../spec/index.js';
import type { Core } from './core.js';
import { parseLive } from './live-format.js';

export type { FunctionSnapshot };

const CAPABILITIES = ['CAP0', 'CAP1', 'VERSION'] as const;
/** In the order of ref §2.2. ERR_STS is written as it was, not as software would: it is RW1C (ref §10). */
const REGISTERS = ['CTL0', 'GRP_ENUM', 'CTL2', 'CXT_L2', 'RKEY', 'ERR_CTL', 'ERR_STS', 'ERR_CFG', 'ERR_WRT', 'ERR_RD'] as const;

function refuse(what: string, hint: string, fields: Record<string, unknown> = {}): never {
  throw new SdxiError('ERR_SDXI_STATE', what, { hint, fields });
}

/** @param live as {@link parseLive} orders it */
function checksum({ format, version, capabilities, registers }: Omit<FunctionSnapshot, 'checksum'>, live?: LiveState): string {
  const inOrder = (names: readonly string[], values: Record<string, string>) => names.map((name) => [name, values[name]]);
  const parts = [format, version, inOrder(CAPABILITIES, capabilities), inOrder(REGISTERS, registers)];
  const text = JSON.stringify(live === undefined ? parts : [...parts, live]);
  return createHash('sha256').update(text).digest('hex');
}

function assertStopped(core: Core, what: string): void {
  if (core.registers.state === FunctionState.STOP) return;
  refuse(`a function that is not stopped cannot be ${what}`, 'request STOP_SF and wait for GSV_STOP first (ref §3.5)', {
    state: core.registers.state,
  });
}

/**
 * @param live what a frozen function knows beside its registers
 * @throws SdxiError ERR_SDXI_STATE unless the function is in GSV_STOP, or frozen
 */
export function takeSnapshot(core: Core, live?: LiveState): FunctionSnapshot {
  if (live === undefined) assertStopped(core, 'saved');
  const read = (names: readonly (keyof typeof Reg)[]) =>
    Object.fromEntries(names.map((name) => [name, `0x${core.registers.get64(Reg[name]).toString(16)}`]));
  const content = {
    format: 'sdxi-function',
    version: live === undefined ? SNAPSHOT_VERSION : LIVE_SNAPSHOT_VERSION,
    capabilities: read(CAPABILITIES),
    registers: read(REGISTERS),
  } as const;
  if (live === undefined) return { ...content, checksum: checksum(content) };
  return { ...content, live, checksum: checksum(content, parseLive(live)) };
}

/** A register's value as it stands in a snapshot, or undefined. */
function savedValue(values: unknown, name: string): bigint | undefined {
  const text = (values as Record<string, unknown> | undefined)?.[name];
  return typeof text === 'string' && /^0x[0-9a-f]{1,16}$/.test(text) ? BigInt(text) : undefined;
}

/**
 * Takes a snapshot over, whole or not at all.
 * @throws SdxiError ERR_SDXI_STATE unless the function is in GSV_STOP, and for a snapshot of another version, of a function with
 * other capabilities, or that was changed
 * @returns the live part, checked, if there is one; the caller takes that over, which cannot fail any more
 */
export function applySnapshot(core: Core, snapshot: FunctionSnapshot): LiveState | undefined {
  assertStopped(core, 'restored');
  const { format, version } = snapshot ?? {};
  if (format !== 'sdxi-function')
    refuse('this is no snapshot of a function', 'give what snapshot() returned, or its JSON parsed', { format });
  if (version !== SNAPSHOT_VERSION && version !== LIVE_SNAPSHOT_VERSION) {
    const known = `this version of sdxi reads versions ${SNAPSHOT_VERSION} and ${LIVE_SNAPSHOT_VERSION}`;
    refuse(`a snapshot of version ${String(version)} is not known`, known, { version });
  }
  for (const [part, names] of [['capabilities', CAPABILITIES] as const, ['registers', REGISTERS] as const]) {
    for (const name of names) {
      if (savedValue(snapshot[part], name) === undefined)
        refuse(`the snapshot has no valid ${part}.${name}`, 'it was changed or cut short', { name });
    }
  }
  if (version === SNAPSHOT_VERSION && snapshot.live !== undefined)
    refuse('the snapshot has a live part that is not its own', 'it was changed');
  const live = version === LIVE_SNAPSHOT_VERSION ? parseLive(snapshot.live) : undefined;
  if (snapshot.checksum !== checksum(snapshot, live)) {
    refuse('the snapshot was changed: its checksum does not fit', 'save again; a snapshot is not for editing');
  }
  for (const name of CAPABILITIES) {
    const value = savedValue(snapshot.capabilities, name);
    const own = core.registers.get64(Reg[name]);
    if (value !== own) {
      refuse(`the snapshot is of a function with another ${name}`, 'make this one with the same options (ref §2.7, §2.8)', {
        name,
        saved: value,
        own,
      });
    }
  }
  if (live !== undefined) assertFits(core, live);
  for (const name of REGISTERS) core.registers.load(Reg[name], savedValue(snapshot.registers, name) as bigint);
  // What was known of other tables, and what others knew of this function, is of the one before.
  core.copies?.clear();
  core.revoke();
  return live;
}

/** What a checked live part may still ask of this function that it does not have. */
function assertFits({ config, registers, virtualFunctions }: Core, { contexts }: LiveState): void {
  for (const { number, running, admin } of contexts) {
    if ((running?.loaded.ringSize ?? 0) > registers.maxRingEntries) {
      refuse(`the snapshot has a ring of ${running?.loaded.ringSize} descriptors`, 'it was changed: this function has none so long', {
        number,
      });
    }
    if (number > config.maxContext) {
      refuse(`the snapshot has a context ${number}, this function none above ${config.maxContext}`, 'make it with the same options', {
        number,
      });
    }
    if (admin !== undefined && admin.virtual > virtualFunctions.length) {
      refuse(`the snapshot works on virtual function ${admin.virtual}`, `make this one with as many; it has ${virtualFunctions.length}`, {
        virtual: admin.virtual,
      });
    }
  }
}
