/**
 * `node scripts/test-counts.mjs REPORT…`: the sum of vitest's JSON reports as the one line `N passed, N failed, N skipped`, after what
 * failed and what was skipped: the end of a log is what people see of it.
 *
 * Exit code 1 where a test failed or was skipped (on the machines this is for, everything a test needs is installed), where no test
 * ran, and where a report is missing. A file that could not be loaded has no tests that could fail: it counts as one failed.
 */
import { readFileSync } from 'node:fs';

/**
 * @typedef {{ status: string, fullName: string, failureMessages?: string[] }} Assertion
 * @typedef {{ name: string, status: string, message: string, assertionResults: Assertion[] }} TestFile
 */

let passed = 0;
let failed = 0;
let skipped = 0;
for (const report of process.argv.slice(2)) {
  for (const { name, status, message, assertionResults } of readReport(report)) {
    const failedHere = assertionResults.filter((test) => test.status === 'failed').length;
    const passedHere = assertionResults.filter((test) => test.status === 'passed').length;
    passed += passedHere;
    failed += failedHere === 0 && status === 'failed' ? 1 : failedHere;
    skipped += assertionResults.length - passedHere - failedHere;
    if (failedHere === 0 && status === 'failed') console.log(`failed: ${name}: ${firstLines(message)}`);
    for (const test of assertionResults) {
      if (test.status === 'failed') console.log(`failed: ${test.fullName}: ${firstLines(test.failureMessages?.join('\n'))}`);
      else if (test.status !== 'passed') console.log(`skipped: ${test.fullName}`);
    }
  }
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 && skipped === 0 && passed > 0 ? 0 : 1;

/** @param {string | undefined} text */
function firstLines(text) {
  return (text ?? '').split('\n').slice(0, 12).join('\n  ');
}

/**
 * @param {string} file
 * @returns {TestFile[]}
 */
function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).testResults;
  } catch (error) {
    console.log(`no report: ${error instanceof Error ? error.message : error}`);
    return [{ name: file, status: 'failed', message: '', assertionResults: [] }];
  }
}
