"""Facts and intent: errors, labels, records, protocols, metrics, paths, addresses. It imports nothing of ours."""
