/** A function that does one of everything under a JsonTracer, with a clock that can be foretold: the examples of docs/trace.md are its lines. */
import { JsonTracer, type JsonTracerOptions } from '../../src/observe/trace-json.js';
import { ContextState, Reg } from '../../src/spec/index.js';
import { copy, descriptor, sync } from '../function/ops.js';
import { LAYOUT, Rig } from '../function/rig.js';

/** A tracer whose lines are kept; each event is 12 µs after the one before. */
export function recorder(options: Partial<JsonTracerOptions> = {}): { tracer: JsonTracer; lines: string[] } {
  const lines: string[] = [];
  let now = 0;
  const clock = () => {
    now += 0.012;
    return now;
  };
  return { tracer: new JsonTracer({ name: 'sdxi0', clock, sink: (line) => lines.push(line), ...options }), lines };
}

/** Activation, a copy, an administrative operation, a copy that fails, and a reset. */
export function scenario(): string[] {
  const { tracer, lines } = recorder();
  tracer.map(LAYOUT.base, LAYOUT.bytes, 3);
  const rig = new Rig({}, { tracer });
  rig.reg(Reg.CAP0);
  const admin = rig.activate();
  rig.reg(Reg.STS0);
  const p = rig.running(1);
  rig.run(p, copy(LAYOUT.data, LAYOUT.data + 0x1000, 4096, { csb: p.csbs }));
  rig.run(admin, sync(1, 1));
  rig.run(p, copy(LAYOUT.data, 0x5000_0000, 64));
  rig.fn.writeRegister(Reg.ERR_STS, 4, 1n);
  rig.run(rig.prepare(2, { state: ContextState.RUN }), descriptor(0x6ff, 0x21, {}));
  rig.fn.readRegister(0x30000, 8);
  rig.setReg(Reg.CTL0, 1);
  rig.drain();
  tracer.flr();
  rig.fn.reset();
  tracer.unmap(LAYOUT.base, LAYOUT.bytes);
  return lines;
}
