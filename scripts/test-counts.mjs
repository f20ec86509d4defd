/**
 * `node scripts/test-counts.mjs REPORT…`: the sum of vitest's JSON reports as the one line `N passed, N failed, N skipped`.
 *
 * Exit code 1 where a test failed or was skipped (on the machines this is for, everything a test needs is installed), where no test
 * ran, and where a report is missing. A file that could not be loaded has no tests that could fail: it counts as one failed.
 */
import { readFileSync } from 'node:fs';

/**
 * @typedef {{ status: string, fullName: string }} Assertion
 * @typedef {{ name: string, status: string, message: string, assertionResults: Assertion[] }} TestFile
 */

let passed = 0;
let failed = 0;
let skipped = 0;
for (const report of process.argv.slice(2)) {
  for (const { status, assertionResults } of readReport(report)) {
    const failedHere = assertionResults.filter((test) => test.status === 'failed').length;
    const passedHere = assertionResults.filter((test) => test.status === 'passed').length;
    passed += passedHere;
    failed += failedHere === 0 && status === 'failed' ? 1 : failedHere;
    skipped += assertionResults.length - passedHere - failedHere;
    for (const test of assertionResults) {
      if (test.status !== 'passed' && test.status !== 'failed') console.log(`skipped: ${test.fullName}`);
    }
  }
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 && skipped === 0 && passed > 0 ? 0 : 1;

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
