import type { FunctionConfig } from '../../src/function/config.js';
import { type ContextPlace, Rig, type RigOptions } from './rig.js';

/** A physical function and its virtual ones, each over memory of its own. */
export interface Family {
  pf: Rig;
  vfs: Rig[];
  /** Steps all of them, in turn, until none has anything to do. */
  drain(): void;
}

export function family(vfs: number, config: Partial<FunctionConfig> = {}, options: RigOptions = {}): Family {
  const rigs = Array.from({ length: vfs }, () => new Rig({}, { vectors: options.vectors }));
  const virtual = (number: number) => ({ memory: rigs[number - 1].memory, interrupts: rigs[number - 1].port });
  const pf = new Rig({ vfs, ...config }, { ...options, virtual });
  for (const [i, rig] of rigs.entries()) {
    Object.assign(rig, { fn: pf.fn.virtualFunctions[i] });
    // The PF reaches into the VF's memory in steps of its own.
    for (const fn of [rig.fn, pf.fn]) rig.shadow?.follow(fn);
  }
  const all = [pf, ...rigs];
  const drain = () => {
    for (let i = 0; i < 100_000; i++) if (all.map(({ fn }) => fn.step(16)).every((turns) => turns === 0)) return;
    throw new Error('the functions do not come to rest');
  };
  return { pf, vfs: rigs, drain };
}

/** A family of which all are ACTIVE, each with its context 0. */
export function activeFamily(vfs = 2, config: Partial<FunctionConfig> = {}): Family & { admin: ContextPlace; admins: ContextPlace[] } {
  const all = family(vfs, config);
  const admin = all.pf.activate();
  const admins = all.vfs.map((vf) => vf.activate());
  return { ...all, admin, admins };
}
