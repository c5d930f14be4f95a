import { DescriptorType } from '../spec/index.js';
import type { Need } from './check.js';
import type { RigCaps } from './rig.js';

const group = ({ opGroups }: RigCaps, type: number, name: string) =>
  (opGroups >>> type) & 1 ? undefined : `CAP1.opb_000_cap does not offer the ${name} group`;

const contexts = ({ maxContext }: RigCaps, highest: number) =>
  maxContext >= highest ? undefined : `CAP1.max_cxt is ${maxContext}, the check needs context ${highest}`;

/** Why a function, judged by its capability registers and its bus, does not have something; undefined if it does. */
const MISSING: Record<Need, (caps: RigCaps) => string | undefined> = {
  context1: (caps) => contexts(caps, 1),
  context2: (caps) => contexts(caps, 2),
  context3: (caps) => contexts(caps, 3),
  level1: (caps) => contexts(caps, 128),
  atomics: (caps) => group(caps, DescriptorType.ATOMIC, 'atomic'),
  interrupts: (caps) => group(caps, DescriptorType.INTR, 'interrupt'),
  rkeys: ({ rkeyCap, sfunc }) => (rkeyCap && sfunc !== 0 ? undefined : 'CAP1.rkey_cap is 0: no remote keys'),
  pasid: ({ noPasid }) => noPasid && `the bus maps no PASIDs: ${noPasid}`,
  largeBuffers: ({ maxBufferBytes }) =>
    maxBufferBytes >= 2 ** 28 ? undefined : `CAP1.max_buffer allows ${maxBufferBytes} bytes, too few to be caught in flight`,
  vfs: ({ vfs }) => (vfs > 0 ? undefined : 'the bus knows of no virtual functions of this one'),
  noVfs: ({ vfs }) => (vfs === 0 ? undefined : `the function has virtual functions (${vfs})`),
};

/** The first thing that is missing for a check. */
export function missing(needs: readonly Need[], caps: RigCaps): string | undefined {
  for (const need of needs) {
    const reason = MISSING[need](caps);
    if (reason !== undefined) return reason;
  }
  return undefined;
}
