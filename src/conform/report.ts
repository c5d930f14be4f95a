import type { CheckResult } from './check.js';
import type { ConformanceReport } from './run.js';

/** Results of each section, in the order of the reference. */
export function bySection<T extends { readonly section: string }>(checks: readonly T[]): Map<string, T[]> {
  const sections = new Map<string, T[]>();
  for (const check of checks) {
    const list = sections.get(check.section);
    if (list) list.push(check);
    else sections.set(check.section, [check]);
  }
  return sections;
}

/** A failed decision that does not count. */
export function isDeviation({ status, kind }: CheckResult, { deviations }: ConformanceReport): boolean {
  return status === 'failed' && kind === 'decision' && deviations > 0;
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** Text as an XML attribute; what XML cannot say at all becomes a question mark. */
function attribute(text: string): string {
  const printable = [...text].map((c) => ((c.codePointAt(0) as number) < 32 || c === '\ufffe' || c === '\uffff' ? '?' : c)).join('');
  return printable.replace(/[&<>"]/g, (c) => ESCAPES[c]);
}

function testcase(check: CheckResult, report: ConformanceReport): string {
  const { id, section, title, basis, status, reason = '' } = check;
  const head = `    <testcase classname="${attribute(section)}" name="${attribute(`${id}: ${title} (${basis})`)}" time="0"`;
  if (status === 'passed') return `${head}/>`;
  const deviation = isDeviation(check, report);
  const tag = status === 'skipped' || deviation ? 'skipped' : 'failure';
  return `${head}>\n      <${tag} message="${attribute(deviation ? `decided otherwise: ${reason}` : reason)}"/>\n    </testcase>`;
}

/** The report as JUnit XML: one suite for each section. Deviations are reported as skipped. */
export function junitReport(report: ConformanceReport): string {
  const suites = [...bySection(report.checks)].map(([section, checks]) => {
    const deviations = checks.filter((check) => isDeviation(check, report)).length;
    const failures = checks.filter(({ status }) => status === 'failed').length - deviations;
    const skipped = checks.filter(({ status }) => status === 'skipped').length + deviations;
    const counts = `tests="${checks.length}" failures="${failures}" errors="0" skipped="${skipped}"`;
    const cases = checks.map((check) => testcase(check, report)).join('\n');
    return `  <testsuite name="${attribute(section)}" ${counts} time="0">\n${cases}\n  </testsuite>`;
  });
  const { target, failed, checks, skipped, deviations, seconds } = report;
  const totals = `tests="${checks.length}" failures="${failed}" errors="0" skipped="${skipped + deviations}" time="${seconds}"`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="${attribute(`sdxi conform ${target}`)}" ${totals}>\n${suites.join('\n')}\n</testsuites>\n`;
}

/** `#` would begin a directive, a line break a new line. */
function tapText(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\\#]/g, '\\$&');
}

/** The report as TAP, version 14. Deviations are TODOs: they fail, and do not count. */
export function tapReport(report: ConformanceReport): string {
  const lines = report.checks.map((check, i) => {
    const { id, title, status, reason = '' } = check;
    const line = `${status === 'failed' ? 'not ok' : 'ok'} ${i + 1} - ${tapText(`${id}: ${title}`)}`;
    if (status === 'skipped') return `${line} # SKIP ${tapText(reason)}`;
    if (status === 'passed') return line;
    if (isDeviation(check, report)) return `${line} # TODO ${tapText(reason)}`;
    return `${line}\n  ---\n  message: ${JSON.stringify(reason)}\n  basis: ${JSON.stringify(check.basis)}\n  ...`;
  });
  return ['TAP version 14', `1..${report.checks.length}`, ...lines, ''].join('\n');
}
