"""Numbers over time: forecasts of series in CSV and Parquet files. The smallest task, and the pattern for others."""
