SELECT DISTINCT artifact FROM revocations WHERE NOT reinstates
